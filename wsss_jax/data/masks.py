"""Masks to train a segmentation network on, anybody's, and whether they can be right. Imports no JAX."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsss_jax.data.images import read_mask, voc_palette
from wsss_jax.data.pool import map_ordered
from wsss_jax.data.source import VOID, Source
from wsss_jax.errors import DataError
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress

_SHOWN = 3  # masks that a message quotes
_MOST_FIT = 0.9  # of the masks with labels, for the judgement that their values are shifted


@dataclass(frozen=True)
class Masks:
    """Label maps of images, uint8[H, W]: 0 background, class + 1, 255 void; pickled to loader workers.

    Attributes:
      source: the data set.
      folder: of the files; None for the data set's own masks.
    """

    source: Source
    folder: Path | None

    @property
    def place(self) -> str:
        """What messages call it."""
        return str(self.folder) if self.folder else f"the true masks of {self.source.name}"

    def has(self, image_id: str) -> bool:
        """Whether there is a file, without decoding it."""
        return (self.folder / f"{image_id}.png").is_file() if self.folder else self.source.has_mask(image_id)

    def __call__(self, image_id: str) -> np.ndarray:
        """The mask; DataError if it is missing or not as it should be."""
        if self.folder is None:
            mask = self.source.mask(image_id)
            if mask is None:
                raise DataError(f"image {image_id!r} has no true mask")
            return mask
        path, size = self.folder / f"{image_id}.png", self.source.size(image_id)
        try:
            return read_mask(path, image_id, len(self.source.classes), size)
        except DataError as error:
            raise DataError(f"{error}{_grey_colours(path, image_id)}") from error


class Census(NamedTuple):
    """What masks hold.

    Attributes:
      shares: float64[C + 2], of the pixels that are background, each class, and void.
      sha256: of ids and pixels.
    """

    shares: np.ndarray
    sha256: str


def check_there(masks: Masks, ids: Sequence[str]) -> None:
    """DataError unless every image has a file."""
    missing = [image_id for image_id in ids if not masks.has(image_id)]
    if missing:
        raise DataError(
            f"{masks.place}: {len(missing)} of {len(ids)} images have no mask there (<id>.png), such as "
            f"{missing[0]!r}; add them, or list only images that have one (--config.dataset.train_split)"
        )


def census(masks: Masks, ids: Sequence[str], threads: int) -> Census:
    """Reads every mask and counts its pixels.

    Raises:
      DataError: masks are missing or damaged, of another size than their images, or have values other than
        0..C and 255; none has a class; or the values are shifted against the image-level labels.
      Interrupted: a signal asked to stop.
    """
    check_there(masks, ids)
    size, digest, line = len(masks.source.classes) + 1, hashlib.sha256(), Progress("masks", len(ids))
    counts = np.zeros((len(ids), 256), np.int64)
    bad: list[str] = []

    def look(image_id: str) -> np.ndarray | DataError:
        try:
            return masks(image_id)
        except DataError as error:
            return error

    for i, mask in enumerate(map_ordered(look, ids, threads=threads)):
        if isinstance(mask, DataError):
            bad.append(str(mask))
        else:
            digest.update(ids[i].encode() + b"\0" + mask.tobytes())
            counts[i] = np.bincount(mask.ravel(), minlength=256)
        line.update(i + 1)
        stop_here("the masks are being read")
    line.end()
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(f"{len(bad)} of {len(ids)} masks cannot be used: {'; '.join(bad[:_SHOWN])}{more}")
    _check_classes(masks, ids, counts)
    total = np.concatenate([counts[:, :size], counts[:, VOID:]], axis=1).sum(axis=0)
    return Census(total / total.sum(), digest.hexdigest())


def describe(shares: np.ndarray, classes: Sequence[str]) -> str:
    """Such as 'background 72.31 %, dog 11.02 %, ..., void 3.10 %'."""
    names = ("background", *classes, "void")
    return ", ".join(f"{name} {100 * share:.2f} %" for name, share in zip(names, shares, strict=True))


def _check_classes(masks: Masks, ids: Sequence[str], counts: np.ndarray) -> None:
    """DataError if masks have nothing to teach, or by the image-level labels something else."""
    shown = counts[:, 1:VOID] > 0
    if not shown.any():
        what = "background" if counts[:, 0].any() else "void"
        raise DataError(
            f"{masks.place}: all {len(ids)} masks are {what} throughout; values must be class indices, 0 "
            "background and 1, 2, ... for the classes in their order: look at how they were written"
        )
    labels = _labels(masks.source, ids)
    if labels is None:
        return
    for shift, found in ((1, "from 0, without a value for background"), (-1, "from 2")):
        if _fitting(shown, labels, shift) > _MOST_FIT > _fitting(shown, labels, 0):
            raise DataError(
                f"{masks.place}: the masks are off by one: by the image-level labels their classes count "
                f"{found}, but must count from 1, with 0 for background; add {shift} to the values of classes"
            )


def _labels(source: Source, ids: Sequence[str]) -> np.ndarray | None:
    """The image-level labels bool[N, C]; None for a data set that has none, which masks do not need."""
    try:
        return np.stack([source.labels(image_id) > 0 for image_id in ids])
    except DataError:
        return None


def _fitting(shown: np.ndarray, labels: np.ndarray, shift: int) -> float:
    """Of the masks with a class, the share whose values bool[N, 254], from 1, plus `shift` are classes by the
    labels bool[N, C]."""
    allowed = np.zeros((len(labels), shown.shape[1] + 2), bool)  # by value, from 0
    allowed[:, 1 : labels.shape[1] + 1] = labels
    values = np.arange(1, shown.shape[1] + 1) + shift
    fits = np.logical_not((shown & ~allowed[:, values]).any(axis=1))
    return float(fits[shown.any(axis=1)].mean())


def _grey_colours(path: Path, image_id: str) -> str:
    """The rest of a message if a mask's values are VOC's colours as grey levels, as Pillow's and OpenCV's
    conversions leave them; '' if not."""
    try:
        values = set(np.unique(read_mask(path, image_id, VOID - 1)).tolist())
    except DataError:
        return ""
    grey = set(np.round(voc_palette() @ np.array([0.299, 0.587, 0.114])).astype(int).tolist())
    if not values - {0, VOID} <= grey:
        return ""
    return (
        "; these are the grey levels of VOC's colours: read masks without converting them, or convert "
        "colours with wsss_jax.data.images.indices_from_colours"
    )
