"""What a data set is to the rest of the program, and how one is made from its name."""

import dataclasses
import difflib
import importlib
import os
from collections.abc import Iterable
from typing import Any, Protocol, cast

import numpy as np

from wsss_jax.errors import ConfigError, DataError

VOID = 255
"""Mask value of pixels that neither training nor evaluation counts."""


class Source(Protocol):
    """A set of images with image-level labels and, for some of them, masks.

    Implementations are frozen dataclasses that can be pickled, because loader workers get a copy. The methods
    that take an image id raise `DataError`, naming the id and the file, where the image or its annotation is
    unusable.
    """

    @property
    def name(self) -> str:
        """Name under which `make_source` knows the data set, such as 'voc12'."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C foreground classes; class `c` is label column `c` and mask value `c + 1`."""

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the image ids of a split, in the split's order and without duplicates.

        Args:
            split: name of a split, or path of a text file with one image id a line.

        Raises:
            DataError: no such split, an empty list, a duplicated id, or an id that has no image.
        """

    def size(self, image_id: str) -> tuple[int, int]:
        """Returns (H, W) in pixels, read from the file's header without decoding the pixels."""

    def image(self, image_id: str) -> np.ndarray:
        """Returns the image, uint8[H, W, 3], RGB."""

    def labels(self, image_id: str) -> np.ndarray:
        """Returns float32[C]: 1 for each class in the image, else 0. An image may show none of them."""

    def has_mask(self, image_id: str) -> bool:
        """Whether `mask` finds a file, without decoding it."""

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W]: 0 background, `c + 1` class `c`, 255 void; None if the image has no mask."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a source's class lives and which options its constructor takes; imported only when asked for."""

    module: str
    cls: str
    takes_root: bool = True
    options: tuple[str, ...] = ()


_SOURCES = {
    "voc12": _Entry("wsss_jax.data.voc", "Voc"),
    "coco14": _Entry("wsss_jax.data.coco", "Coco"),
    "tfds": _Entry("wsss_jax.data.tfds_source", "Tfds"),
    "folder": _Entry("wsss_jax.data.folder", "Folder"),
    "shapes": _Entry(
        "wsss_jax.data.shapes",
        "Shapes",
        takes_root=False,
        options=("num_train", "num_val", "image_size", "seed"),
    ),
}


def make_source(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> Source:
    """Makes the data source of a configuration's `dataset` section.

    Args:
        name: 'voc12', 'coco14', 'tfds', 'folder' or 'shapes'.
        root: folder of the data set on disk; not used by 'shapes', which draws its images.
        **options: the source's own options (`num_train`, `num_val`, `image_size`, `seed` of 'shapes').

    Raises:
        ConfigError: unknown name or option, or no root for a data set that lies on disk.
        DataError: the root is not what the source expects.
    """
    if name not in _SOURCES:
        raise ConfigError(f"dataset.name: unknown data set {name!r}{_suggest(name, _SOURCES)}")
    entry = _SOURCES[name]
    for key in options:
        if key not in entry.options:
            has = f"its options are {', '.join(entry.options)}" if entry.options else "it has no options"
            raise ConfigError(f"dataset.{key}: the data set {name!r} has no such option; {has}")
    make = getattr(importlib.import_module(entry.module), entry.cls)
    if not entry.takes_root:
        return cast(Source, make(**options))
    if root is None or not os.fspath(root):
        raise ConfigError(f"dataset.root: the data set {name!r} needs the folder that it lies in")
    # The shell does not expand '~' in --config.dataset.root=~/VOC.
    return cast(Source, make(os.path.expanduser(os.fspath(root)), **options))


def label_matrix(source: Source, ids: Iterable[str]) -> np.ndarray:
    """Returns the labels of many images, float32[N, C]; reading them all at once finds a bad one early."""
    rows = [source.labels(image_id) for image_id in ids]
    if not rows:
        raise DataError("no labels to read: the list of image ids is empty")
    return np.stack(rows)


def _suggest(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error message: the nearest known word, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(names)}"
