"""Pooled features for SC-CAM's clusters: padded buckets in batches against one image at a time.

Both sides read the images and return the features to the host; the padded side is the pipeline of the stage
`features`. One image at a time is how SC-CAM's program does it; in JAX each size is a program then.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks.images import Shrunk, open_images
from benchmarks.networks import method_of, published_config, random_variables
from benchmarks.row import Row, Settings
from benchmarks.timing import interleaved, seconds_of
from wsss_jax.data.source import Source
from wsss_jax.inference.predict import InferenceSettings, plan_batches
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.infer import inference_settings
from wsss_jax.systems.sc_cam.extractor import FeatureExtractor
from wsss_jax.systems.sc_cam.features import pooled_features
from wsss_jax.systems.sc_cam.network import PooledFeatures
from wsss_jax.task import Variables

_BUCKETS = 2  # for few images; a real list has the configured number


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures both sides, first with compilation and then without."""
    settings = settings or Settings()
    network = pooled_features(published_config(settings, "sc_cam"))
    whole = random_variables(method_of(settings, "sc_cam"))["classifier"]
    variables = {collection: {"trunk": modules["trunk"]} for collection, modules in whole.items()}
    with open_images(settings) as (images, ids):
        source = Shrunk(images, settings.side)
        padded = _Padded(network, variables, source, ids, _inference_settings(settings))
        plain = _Plain(network, variables, source, ids)
        cold = seconds_of(padded), seconds_of(plain)
        sizes = len({source.size(image_id) for image_id in ids})
        times = interleaved({"padded": padded, "plain": plain}, settings.repeats)
    ours, theirs = (np.stack([side.found[i] for i in ids]) for side in (padded, plain))
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    note = f"width {settings.width:g}; {len(ids)} images; relative difference {difference:.0e}"
    name, unit, versus = "features", "images/s", "one image at a time"
    ratio = times["plain"].median / times["padded"].median
    return [
        times["padded"].per_second(
            len(ids), f"{name}, compiled before, padded", unit, ratio=ratio, versus=versus, note=note
        ),
        times["plain"].per_second(len(ids), f"{name}, compiled before, {versus}", unit),
        Row(
            name=f"{name}, with compilation, padded",
            value=len(ids) / cold[0],
            unit=unit,
            ratio=cold[1] / cold[0],
            versus=versus,
            note=f"{padded.extractor.compiled} programs",
        ),
        Row(
            name=f"{name}, with compilation, {versus}",
            value=len(ids) / cold[1],
            unit=unit,
            note=f"{sizes} programs",
        ),
    ]


class _Padded:
    """The pipeline of the stage `features`; a call computes the features of all images."""

    def __init__(
        self,
        network: PooledFeatures,
        variables: Variables,
        source: Source,
        ids: tuple[str, ...],
        settings: InferenceSettings,
    ) -> None:
        self.extractor = FeatureExtractor(network, data_mesh(jax.local_devices()), settings)
        self.found: dict[str, np.ndarray] = {}
        self._variables, self._source = jax.device_put(variables), source
        self._batches = plan_batches(source, ids, settings)

    def __call__(self) -> None:
        for batch in self.extractor.extract(self._variables, self._source, self._batches):
            self.found.update(dict(batch))


class _Plain:
    """One image at a time at its own size; a call computes the features of all images."""

    def __init__(
        self, network: PooledFeatures, variables: Variables, source: Source, ids: tuple[str, ...]
    ) -> None:
        self.found: dict[str, np.ndarray] = {}
        self._variables, self._source, self._ids = jax.device_put(variables), source, ids
        self._run: Any = jax.jit(lambda weights, pixels: network.apply(weights, IMAGENET.images(pixels)))

    def __call__(self) -> None:
        for image_id in self._ids:
            pixels = self._source.image(image_id)[None]
            self.found[image_id] = np.asarray(self._run(self._variables, pixels))[0]


def _inference_settings(settings: Settings) -> InferenceSettings:
    config = published_config(settings, "sc_cam")
    config.cam.batch_size = settings.batch_size * jax.local_device_count()
    config.cam.max_buckets = _BUCKETS
    return dataclasses.replace(inference_settings(config), scales=(1.0,), flip=False)
