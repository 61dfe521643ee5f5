"""The files of SC-CAM's sub-categories: pooled features, and which sub-categories each image shows."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss_jax.data.arrays import DAMAGE, read_npz
from wsss_jax.data.lists import sha256
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import RunError
from wsss_jax.files import write_whole
from wsss_jax.runs.context import Run, require
from wsss_jax.systems.sc_cam.files import feature_file, sub_labels_file


@dataclass(frozen=True, eq=False)
class SubLabels:
    """Which sub-categories the images of a list show, and what they were found with.

    Attributes:
      labels: uint8[N, C * k]; sub-category s of class c is column c * k + s. Each class of an image has one.
      made_with: `list_sha256`, `k`, `restarts`, and `weights_sha256` of the network whose features they are.
    """

    labels: np.ndarray
    made_with: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes an .npz, whole or not at all."""
        made_with = np.array(json.dumps(dict(self.made_with)))
        write_whole(path, lambda file: np.savez_compressed(file, labels=self.labels, made_with=made_with))


def load_sub_labels(path: Path) -> SubLabels:
    """Reads what `SubLabels.save` wrote; RunError if it is missing or damaged."""
    require(path, "sub-categories", "cluster")
    try:
        labels, made_with = read_npz(path, "labels", "made_with")
        return SubLabels(labels, json.loads(str(made_with)))
    except DAMAGE as error:
        raise RunError(f"{path}: damaged; delete it and run the stage cluster again") from error


def check_made_with(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises RunError, naming what differs, if sub-categories were made with other things than are wanted."""
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        was = ", ".join(f"{key} {found.get(key)!r}, now {wanted[key]!r}" for key in differing)
        raise RunError(
            f"{path} was made with {was}; delete it and run the stage cluster again, "
            "or choose another --workdir"
        )


def sub_label_vectors(run: Run, ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The batch entry `sub_labels` of each image of the training list.

    Raises:
      RunError: the stage `cluster` has not run, or ran on another list or with another k.
    """
    path = sub_labels_file(run.layout, run.config.dataset.train_split)
    found = load_sub_labels(path)
    check_made_with(path, found.made_with, {"list_sha256": sha256(ids), "k": run.config.sc_cam.k})
    return {"sub_labels": dict(zip(ids, found.labels, strict=True))}


def load_features(run: Run, ids: Sequence[str]) -> np.ndarray:
    """The features of a list of images, float32[N, D].

    Raises:
      RunError: an image's file is missing, damaged or not finite, or has another length than the first.
    """
    read = functools.partial(_load_feature, run)
    features = list(map_ordered(read, ids, threads=run.config.loader.threads))
    for image_id, feature in zip(ids, features, strict=True):
        if feature.shape != features[0].shape:
            path = feature_file(run.layout, run.config.dataset.train_split, image_id)
            raise RunError(
                f"{path} has {feature.size} numbers, but image {ids[0]!r} {features[0].size}; "
                "delete the folder and run the stage features again"
            )
    return np.stack(features)


def _load_feature(run: Run, image_id: str) -> np.ndarray:
    path = feature_file(run.layout, run.config.dataset.train_split, image_id)
    require(path, f"features of image {image_id!r}", "features")
    try:
        (feature,) = read_npz(path, "feature")
    except DAMAGE as error:
        raise RunError(f"{path}: damaged; delete it and run the stage features again") from error
    if not np.isfinite(feature).all():
        raise RunError(f"{path}: features of {image_id!r} are not finite; look at the weights they are of")
    return feature
