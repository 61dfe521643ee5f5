"""Writes a data set in the form of TensorFlow Datasets, for `tfds_source`, without TensorFlow."""

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wsss_jax.data.images import palette_png
from wsss_jax.data.source import Source
from wsss_jax.data.tfds_source import SPLIT, check_installed
from wsss_jax.errors import DataError, RunError

VERSION = "1.0.0"
_PER_FILE = 1000  # images


class FileSource(Source, Protocol):
    """A data set of JPEG files."""

    def image_path(self, image_id: str) -> Path:
        """The file of an image."""


def export_tfds(source: FileSource, splits: Sequence[str], out: Path) -> Iterator[tuple[int, int]]:
    """Writes `<out>/<name>/<version>`, whole or not at all; the files of images are taken as they are.

    Args:
      source: the data set.
      splits: of it; they may overlap, and those that it lacks are left out.
      out: TensorFlow Datasets' data folder.

    Yields:
      Number of images written so far and of all.

    Raises:
      ConfigError: TensorFlow Datasets is not installed.
      DataError: there is no such split, or an image or its annotation is unusable.
      RunError: the folder is there already.
    """
    check_installed()
    folder = out / source.name / VERSION
    if folder.exists():
        raise RunError(f"{folder} is there already; delete it, or choose another folder")
    lists = _lists(source, splits)
    ids = list(dict.fromkeys(image_id for found in lists.values() for image_id in found))
    unfinished = folder.with_name(f"{VERSION}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    writer = _writer(source, _metadata(source, lists, ids), unfinished)
    for done, image_id in enumerate(ids, 1):
        writer.add_examples({SPLIT: [_record(source, image_id)]})
        yield done, len(ids)
    writer.close_all()
    unfinished.rename(folder)


def _lists(source: Source, splits: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found, reasons = {}, []
    for split in splits:
        try:
            found[split] = source.ids(split)
        except DataError as error:
            reasons.append(str(error))
    if not found:
        raise DataError(reasons[0])
    return found


def _metadata(source: Source, lists: Mapping[str, Sequence[str]], ids: Sequence[str]) -> dict[str, Any]:
    return {
        "classes": list(source.classes),
        "splits": {split: list(found) for split, found in lists.items()},
        "ids": list(ids),
        "sizes": [list(source.size(image_id)) for image_id in ids],
        "labels": [np.flatnonzero(source.labels(image_id)).tolist() for image_id in ids],
        "masks": [int(source.has_mask(image_id)) for image_id in ids],
    }


def _writer(source: Source, metadata: Mapping[str, Any], folder: Path) -> Any:
    import tensorflow_datasets as tfds  # an extra
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(encoding_format="jpeg"),
        # As bytes: decoded by TensorFlow Datasets, a palette may come back as colours.
        "mask": tfds.features.Scalar(dtype=np.object_, optional=True),
    }
    version = tfds.core.Version(VERSION)
    info = tfds.core.DatasetInfo(
        builder=DatasetIdentity(
            name=source.name, version=version, data_dir=str(folder), module_name=__name__
        ),
        features=tfds.features.FeaturesDict(features),
        metadata=tfds.core.MetadataDict(metadata),
    )
    # A builder's own generator would hold a split of more than 1 GB in memory, or need TensorFlow.
    writer = tfds.core.SequentialWriter(info, _PER_FILE, file_format="array_record")
    writer.initialize_splits([SPLIT])
    return writer


def _record(source: FileSource, image_id: str) -> dict[str, Any]:
    try:
        content = source.image_path(image_id).read_bytes()
    except OSError as error:
        raise DataError(f"image {image_id!r}: cannot be read ({error.strerror})") from error
    mask = source.mask(image_id)
    return {
        "id": image_id,
        "image": io.BytesIO(content),
        "mask": None if mask is None else palette_png(mask),
    }
