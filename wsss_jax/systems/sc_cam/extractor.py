"""Pooled features over a list of images: as CAM inference, with a vector per image in place of maps."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.source import Source
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, one_behind, padded_batches
from wsss_jax.sharding import replicated, split
from wsss_jax.systems.sc_cam.network import PooledFeatures
from wsss_jax.task import Variables


class Pooled(NamedTuple):
    """The features of one image."""

    image_id: str
    feature: np.ndarray  # float32[D], conv6's mean over the image


class FeatureExtractor:
    """Computes pooled features batch by batch, at the images' own size; one compilation per bucket."""

    def __init__(self, network: PooledFeatures, mesh: Mesh, settings: InferenceSettings) -> None:
        """`settings` need a single scale; batches are rounded up to a multiple of the mesh's devices."""
        self.compiled = 0  # programs so far
        self._network, self._mesh, self._settings = network, mesh, settings
        self._run = jax.jit(self._features, out_shardings=split(mesh))

    def extract(
        self, variables: Variables, source: Source, batches: Sequence[PlannedBatch]
    ) -> Iterator[list[Pooled]]:
        """Yields the features of each batch's images, in order.

        Args:
          variables: of the network.
          source: reads the images.
          batches: from `plan_batches`, possibly fewer.
        """
        placed = jax.device_put(variables, replicated(self._mesh))
        no_maps = {i: () for b in batches for i in b.image_ids}
        padded = padded_batches(source, batches, self._settings, self._mesh.size, no_maps)
        started = (
            (batch, self._run(placed, *jax.device_put((p.images[0], p.sizes[0]), split(self._mesh))))
            for batch, p in padded
        )
        for batch, features in one_behind(started):
            found = np.asarray(features)
            yield [Pooled(image_id, found[i]) for i, image_id in enumerate(batch.image_ids)]

    def _features(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> jax.Array:
        self.compiled += 1  # runs when traced only
        return cast(jax.Array, self._network.apply(variables, self._network.preprocess.images(images), sizes))
