"""Stage `features`: the pooled features of every training image, which SC-CAM clusters."""

import dataclasses
import functools
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from wsss_jax.data.lists import sha256
from wsss_jax.files import write_whole
from wsss_jax.inference.predict import InferenceSettings
from wsss_jax.runs.context import TRAIN_SPLIT, Run, Stage, require
from wsss_jax.runs.provenance import FILE, read_provenance, record_provenance
from wsss_jax.stages.batches import own_batches, write_batches
from wsss_jax.stages.infer import inference_settings
from wsss_jax.stages.networks import load_variables, other_heads
from wsss_jax.systems.resnet38.options import network_options
from wsss_jax.systems.sc_cam.extractor import FeatureExtractor, Pooled
from wsss_jax.systems.sc_cam.files import feature_file, features_folder
from wsss_jax.systems.sc_cam.network import PooledFeatures
from wsss_jax.systems.sc_cam.rounds import round_before
from wsss_jax.training.checkpoints import digest


def features(run: Run) -> None:
    """Computes the features that are not there yet, by the classifier of the round before, at scale 1.

    Only the trunk of that classifier counts, so it may be any ResNet-38: the ordinary classifier, a round
    with another k, or ImageNet's.

    Raises:
      RunError: there is no such classifier yet, or the folder holds features of other weights.
      CheckpointError: its trunk is not the configured one.
    """
    split = run.config.dataset.train_split
    ids, network = run.ids(split), pooled_features(run.config)
    source = round_before(run)
    variables = load_variables(run, source, network, ignore=other_heads(network))
    record_provenance(
        features_folder(run.layout, split), _provenance(run, ids, digest(variables)), "features"
    )
    settings = _settings(run)
    path = functools.partial(feature_file, run.layout, split)
    batches, todo = own_batches(run, ids, settings, path)
    run.say(f"features {split}: {len(ids)} images by {source}")
    if not todo:
        return run.say(f"features {split}: done already")
    extractor = FeatureExtractor(network, run.local_mesh, settings)
    results = extractor.extract(variables, run.source, todo)
    rate = write_batches("features", batches, todo, results, functools.partial(_write, run))
    run.say(f"features {split}: {rate:.1f} images/s, {extractor.compiled} compiled program(s)")


def pooled_features(config: ConfigDict) -> PooledFeatures:
    """The network whose output is clustered: the trunk that section `model` describes."""
    return PooledFeatures(**network_options(config))


def features_provenance(run: Run) -> dict[str, Any]:
    """What the features on disk were made with; RunError if there are none."""
    folder = features_folder(run.layout, run.config.dataset.train_split)
    require(folder / FILE, "features", "features")
    return read_provenance(folder)


def _provenance(run: Run, ids: tuple[str, ...], weights_sha256: str) -> dict[str, Any]:
    return {
        "dataset": run.config.dataset.name,
        "list_sha256": sha256(ids),
        "weights_sha256": weights_sha256,
    }


def _settings(run: Run) -> InferenceSettings:
    """Those of section `cam`, but at the images' own size only and not mirrored, as in SC-CAM."""
    return dataclasses.replace(inference_settings(run.config), scales=(1.0,), flip=False)


def _write(run: Run, pooled: Pooled) -> None:
    path = feature_file(run.layout, run.config.dataset.train_split, pooled.image_id)
    write_whole(path, lambda file: np.savez(file, feature=pooled.feature))


FEATURES = Stage(
    name="features",
    function=features,
    reads=lambda config: (TRAIN_SPLIT,),
    weights=lambda run: {"classifier_from": run.config.classifier_from},
    all_hosts=True,
)
