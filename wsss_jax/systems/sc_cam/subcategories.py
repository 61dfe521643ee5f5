"""The files of SC-CAM's subcategories: pooled features, and which subcategories each image shows."""

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
from wsss_jax.runs.provenance import check_provenance
from wsss_jax.systems.sc_cam.files import feature_file, sub_labels_file


@dataclass(frozen=True, eq=False)
class SubLabels:
    """Which subcategories the images of a list show, and what they were found with.

    Attributes:
      labels: uint8[N, C * k]; subcategory s of class c is column c * k + s. Each class of an image has one.
      provenance: `list_sha256`, `k`, `restarts`, and `weights_sha256` of the network whose features they are.
    """

    labels: np.ndarray
    provenance: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Writes an .npz, whole or not at all."""
        provenance = np.array(json.dumps(dict(self.provenance)))
        write_whole(path, lambda file: np.savez_compressed(file, labels=self.labels, provenance=provenance))


def load_sub_labels(path: Path) -> SubLabels:
    """Reads what `SubLabels.save` wrote; RunError if it is missing or damaged."""
    require(path, "subcategories", "cluster")
    try:
        labels, provenance = read_npz(path, "labels", "provenance")
        return SubLabels(labels, json.loads(str(provenance)))
    except DAMAGE as error:
        raise RunError(f"{path}: damaged; delete it and run the stage cluster again") from error


def sub_label_vectors(run: Run, ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The batch entry `sub_labels` of each image of the training list.

    Raises:
      RunError: the stage `cluster` has not run, or ran on another list or with another k.
    """
    path = sub_labels_file(run.layout, run.config.dataset.train_split)
    found = load_sub_labels(path)
    wanted = {"list_sha256": sha256(ids), "k": run.config.sc_cam.k}
    check_provenance(path, "subcategories", {key: found.provenance.get(key) for key in wanted}, wanted)
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
