"""A data set of TensorFlow Datasets, as `tfds_export` writes it; TensorFlow itself is not needed.

Encoded images and masks lie in a few large ArrayRecord files, which shared and network storage serves better
than many small ones. Sizes, labels and splits lie in the data set's metadata.
"""

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wsss_jax.data import images, lists
from wsss_jax.errors import ConfigError, DataError

SPLIT = "images"  # the only split that TensorFlow Datasets knows of: ours overlap, and are lists in it
KEYS = ("classes", "splits", "ids", "sizes", "labels", "masks")  # of the metadata


@dataclasses.dataclass(frozen=True)
class Tfds:
    """`root` is the folder of a version of the data set, such as `tfds/voc12/1.0.0`."""

    root: str

    name: ClassVar[str] = "tfds"

    def __post_init__(self) -> None:
        check_installed()
        if not Path(self.root, "dataset_info.json").exists():
            raise DataError(
                f"dataset.root: {self.root} has no dataset_info.json; give the folder of a version, such as "
                "tfds/voc12/1.0.0, which `python -m wsss_jax.prepare voc12 ROOT --tfds=tfds` writes"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes."""
        return tuple(self._metadata["classes"])

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the ids of a split of the data set that this one was made from, or of a list file."""
        if lists.is_list_path(split):
            found = [line for _, line in lists.read_lines(split)]
        elif split in self._metadata["splits"]:
            found = self._metadata["splits"][split]
        else:
            known = ", ".join(self._metadata["splits"])
            raise DataError(f"split {split!r}: {self.root} has {known} (or give the path of a list)")
        for image_id in found:
            self._row(image_id)
        return lists.check_ids(found, f"split {split!r}")

    def size(self, image_id: str) -> tuple[int, int]:
        """Returns (H, W) in pixels, from the metadata."""
        height, width = self._metadata["sizes"][self._row(image_id)]
        return height, width

    def image(self, image_id: str) -> np.ndarray:
        """Returns the image, uint8[H, W, 3], RGB."""
        return images.decode_image(self._content(image_id, "image"), image_id)

    def labels(self, image_id: str) -> np.ndarray:
        """Returns float32[C] of 0/1."""
        labels = np.zeros(len(self.classes), np.float32)
        labels[self._metadata["labels"][self._row(image_id)]] = 1
        return labels

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a mask."""
        return bool(self._metadata["masks"][self._row(image_id)])

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W] with 0 background, c + 1 class c, 255 void; None where there is no mask."""
        if not self.has_mask(image_id):
            return None
        content = self._content(image_id, "mask")
        return images.read_mask(content, image_id, len(self.classes), self.size(image_id))

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds  # an extra

        try:
            return tfds.builder_from_directory(self.root)
        except Exception as error:  # JSON, protobuf and file errors of many types
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DataError(f"{self.root}: no data set of TensorFlow Datasets ({reason})") from error

    @functools.cached_property
    def _metadata(self) -> dict[str, Any]:
        metadata = dict(self._builder.info.metadata or {})
        if missing := [key for key in KEYS if key not in metadata]:
            raise DataError(
                f"{self.root}: its metadata have no {', '.join(missing)}; only data sets that "
                "`python -m wsss_jax.prepare` wrote can be read"
            )
        return metadata

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self._metadata["ids"])}

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds

        as_written = {"image": tfds.decode.SkipDecoding()}  # we decode every data set alike
        return self._builder.as_data_source(SPLIT, decoders=as_written)

    def __getstate__(self) -> dict[str, Any]:
        """Workers open the files themselves."""
        return {"root": self.root}

    def _row(self, image_id: str) -> int:
        if image_id not in self._rows:
            raise DataError(f"image {image_id!r} is not in {self.root}")
        return self._rows[image_id]

    def _content(self, image_id: str, key: str) -> images.Content:
        row = self._row(image_id)
        try:
            record = self._records[row]
        except Exception as error:  # of ArrayRecord and protobuf, of many types
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DataError(f"image {image_id!r}: cannot be read from {self.root} ({reason})") from error
        if record["id"].decode() != image_id:
            raise DataError(f"{self.root}: record {row} is not {image_id!r}; write the data set again")
        return images.Content(record[key], f"{self.root}, record {row}")


def check_installed() -> None:
    """ConfigError if TensorFlow Datasets is not installed."""
    for package in ("tensorflow_datasets", "array_record"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"dataset.name='tfds' needs {package}; pip install 'wsss-jax[tfds]'")
