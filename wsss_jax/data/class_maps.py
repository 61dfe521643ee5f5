"""Scores of an image's classes, one plane each: the type, its check, and its files. Imports no JAX."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsss_jax.data.arrays import DAMAGE, read_npz
from wsss_jax.errors import CheckpointError, DataError
from wsss_jax.files import write_whole
from wsss_jax.weights.files import map_file
from wsss_jax.weights.npy_pickles import read_object_npy

SUFFIXES = (".npz", ".npy")
MOST_CLASSES = 254
"""That 8-bit label maps hold beside background and void."""
BACKGROUND = -1
REDUCED, STRIDED = 4, "strided"  # stride and name of the maps that IRN's walk starts from
_ROUNDING = 1e-3  # by which a map may exceed 1


class ClassMaps(NamedTuple):
    """Planes of scores, such as class activation maps or what a CRF makes of them.

    Attributes:
      class_ids: int32[K], 0-based classes, ascending; first of all -1 where background has a plane too.
      planes: float32[K, H, W].
    """

    class_ids: np.ndarray
    planes: np.ndarray

    @property
    def foreground(self) -> "ClassMaps":
        """Without the background's plane."""
        first = int(len(self.class_ids) > 0 and self.class_ids[0] == BACKGROUND)
        return ClassMaps(self.class_ids[first:], self.planes[first:])

    def labels(self, threshold: float) -> np.ndarray:
        """The label map uint8[H, W] of planes without background: the best class + 1 where it is above the
        threshold, else 0. Of equal planes the first wins, and background against all, as in the references.
        """
        if not len(self.class_ids):
            return np.zeros(self.planes.shape[1:], np.uint8)
        best = (self.class_ids + 1).astype(np.uint8)[self.planes.argmax(axis=0)]
        return np.where(self.planes.max(axis=0) > np.float32(threshold), best, np.uint8(0))


class ImageMaps(NamedTuple):
    """The maps of an image, by name."""

    image_id: str
    maps: ClassMaps


def background_first(class_ids: np.ndarray) -> np.ndarray:
    """int32[K + 1]: the class ids int[K] after that of the background."""
    return np.concatenate([[BACKGROUND], class_ids]).astype(np.int32)


def check_maps(
    maps: ClassMaps,
    what: str,
    *,
    size: tuple[int, ...] | None = None,
    background: bool = False,
    num_classes: int = MOST_CLASSES,
    remedy: str = "",
) -> ClassMaps:
    """Checks planes of any order and precision, and returns them as `ClassMaps` are described.

    Args:
      maps: int[K] and float[K, H, W].
      what: names them in errors.
      size: (H, W) that they must have; None for any.
      background: whether there may be a plane of the class -1.
      num_classes: classes are below it.
      remedy: for the message, where the planes hold no scores; '' for those that somebody else has made.

    Raises:
      DataError: shapes, types, classes or values are not as they should be.
    """
    ids, planes = maps
    if planes.ndim != 3 or ids.shape != planes.shape[:1] or len(ids) > MOST_CLASSES + background:
        shapes = f"keys {list(ids.shape)} for maps {list(planes.shape)}"
        raise DataError(f"{what} has {shapes}; expected K and K, H, W")
    if not len(ids):
        return ClassMaps(np.zeros(0, np.int32), np.zeros((0, *(size or planes.shape[1:])), np.float32))
    H, W = planes.shape[1:]
    if size is not None and size != (H, W):
        raise DataError(
            f"{what} holds maps of {W}x{H} pixels, but the image is {size[1]}x{size[0]} (width x height); "
            + (remedy or "make them at the image's size")
        )
    lowest = BACKGROUND if background else 0
    whole = np.issubdtype(ids.dtype, np.integer)
    if not whole or ids.min() < lowest or len(np.unique(ids)) < len(ids):
        wanted = f"{'-1 for background and ' if background else ''}different classes, counted from 0"
        raise DataError(f"{what} has the keys {ids.tolist()}; expected {wanted}")
    if ids.max() >= num_classes:
        raise DataError(
            f"{what} has the class {ids.max()}, but classes are 0 to {num_classes - 1}; was it made on "
            "another data set?"
        )
    if np.issubdtype(planes.dtype, np.floating):
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and told below
            planes = planes.astype(np.float32, copy=False)
    if planes.dtype != np.float32 or not np.isfinite(planes).all():
        remedy = remedy or "make it again"
        raise DataError(f"{what} holds {planes.dtype} values that are no finite scores; {remedy}")
    order = np.argsort(ids)
    if np.any(np.diff(order) < 0):
        ids, planes = ids[order], planes[order]
    return ClassMaps(ids.astype(np.int32, copy=False), planes)


def read_maps(
    path: str | os.PathLike[str],
    image_id: str,
    size: tuple[int, ...],
    *,
    num_classes: int = MOST_CLASSES,
    background: bool = False,
    stage: str = "",
) -> ClassMaps:
    """Reads and checks the maps of an image.

    Args:
      path: .npz with `keys` int[K] and `cam` float[K, H, W], or a .npy file with a pickled dictionary
        {class: float[H, W]} (psa, SC-CAM, OC-CSE) or {'keys': int[K], 'high_res': float[K, H, W]} (IRN). No
        code of a pickle is run. With a background, .npz with `scores` in place of `cam`.
      image_id: named in errors.
      size: (H, W) of the planes.
      num_classes: classes are below it.
      background: whether the first plane is the background's, of class -1.
      stage: that makes such files, named in errors; '' for other people's.

    Raises:
      DataError: the file is missing, damaged, of another size or holds what cannot be scores.
    """
    kind = "scores" if background else "maps"
    where = f"{kind} of image {image_id!r}: {os.fspath(path)}"
    remedy = f"delete it and run the stage {stage} again" if stage else ""
    if not Path(path).exists():
        raise DataError(f"{where} is missing" + (f"; run the stage {stage} first" if stage else ""))
    try:
        found = _read_npy(path) if str(path).endswith(".npy") else _read_npz(path, size, background)
    except CheckpointError as error:  # tells the file and the place
        raise DataError(f"{kind} of image {image_id!r}: {error}; {remedy or 'make it again'}") from error
    except DAMAGE as error:
        raise DataError(f"{where} is damaged or holds no {kind}; {remedy or 'make it again'}") from error
    maps = check_maps(found, where, size=size, background=background, num_classes=num_classes, remedy=remedy)
    if background and (not len(maps.class_ids) or maps.class_ids[0] != BACKGROUND):
        raise DataError(
            f"{where} has the keys {maps.class_ids.tolist()}; expected the background's key -1 first; "
            + remedy
        )
    if not background and maps.planes.max(initial=0) > 1 + _ROUNDING:
        raise DataError(
            f"{where} reaches {maps.planes.max():.4g}; scores must be at most 1: divide each by its maximum"
        )
    return maps


def read_logits(
    path: str | os.PathLike[str], image_id: str, size: tuple[int, ...], num_classes: int
) -> ClassMaps:
    """Reads and checks a segmentation network's logits of an image, background first, then all classes.

    Args:
      path: .npz with `keys` int[C + 1] and `scores` float[C + 1, h, w].
      image_id: named in errors.
      size: (H, W) of the image, which the planes do not exceed.
      num_classes: C.

    Raises:
      DataError: the file is missing, damaged or of other classes.
    """
    where, remedy = f"scores of image {image_id!r}: {os.fspath(path)}", "delete it and run infer_seg again"
    try:
        found = check_maps(ClassMaps(*_read_npz(path, size, True)), where, background=True, remedy=remedy)
    except FileNotFoundError as error:
        raise DataError(f"{where} is missing; run the stage infer_seg first") from error
    except (CheckpointError, *DAMAGE) as error:
        raise DataError(f"{where} is damaged or holds no scores; {remedy}") from error
    if found.class_ids.tolist() != list(range(BACKGROUND, num_classes)):
        raise DataError(f"{where} has the keys {found.class_ids.tolist()}; expected all classes; {remedy}")
    return found


def read_reduced(
    path: str | os.PathLike[str],
    image_id: str,
    size: tuple[int, ...],
    *,
    num_classes: int = MOST_CLASSES,
    stage: str = "",
) -> ClassMaps:
    """The maps of an image at a quarter of its size, float32[K, ceil(H / 4), ceil(W / 4)].

    They are `strided` of an .npz, as the systems on ResNet-50 write it, or `cam` beside `high_res` in IRN's
    .npy; of other files, `reduced_maps` of the full-size ones. Arguments and errors are those of `read_maps`.
    """
    maps = read_maps(path, image_id, size, num_classes=num_classes, stage=stage)
    small = tuple(-(-n // REDUCED) for n in size)
    remedy = f"delete it and run the stage {stage} again" if stage else ""
    what = f"reduced maps of image {image_id!r}: {os.fspath(path)}"
    try:
        found = _read_strided(path)
    except DAMAGE as error:
        raise DataError(f"{what} is damaged; {remedy or 'make it again'}") from error
    if found is None:
        return reduced_maps(maps)
    return check_maps(found, what, size=small, num_classes=num_classes, remedy=remedy)


def reduced_maps(maps: ClassMaps) -> ClassMaps:
    """Maps at a quarter of their size, bilinear (half-pixel, not antialiased), each divided by (its maximum +
    1e-5): float32[K, H, W] -> [K, ceil(H / 4), ceil(W / 4)]."""
    planes = maps.planes
    for axis in (1, 2):
        n = planes.shape[axis]
        count = -(-n // REDUCED)
        source = np.clip((np.arange(count) + 0.5) * (n / count) - 0.5, 0, n - 1)
        low = np.floor(source).astype(int)
        share = (source - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
        upper = planes.take(np.minimum(low + 1, n - 1), axis)
        planes = planes.take(low, axis) * (1 - share) + upper * share
    highest = planes.max((1, 2), keepdims=True, initial=0)
    return ClassMaps(maps.class_ids, planes / (highest + np.float32(1e-5)))


def write_maps(
    path: str | os.PathLike[str],
    maps: ClassMaps,
    storage: str = "float32",
    reduced: ClassMaps | None = None,
) -> None:
    """Writes an .npz of `keys` int32[K] and `cam` float[K, H, W], whole or not at all.

    Where background has a plane, it is `scores` in place of `cam`. The same maps at a quarter of the size, if
    given, are `strided` float32[K, h, w] beside them, see `read_reduced`. `storage` is the precision of
    full-size maps: 'float16' takes half the room and moves a few pixels over a threshold. (Compressed without
    loss, CAMs would take 0.87 of the room, and several times as long to read.)

    Raises:
      RunError: the file cannot be written.
    """
    name = "scores" if len(maps.class_ids) and maps.class_ids[0] == BACKGROUND else "cam"
    arrays = {"keys": maps.class_ids, name: maps.planes.astype(storage, copy=False)}
    if reduced is not None:
        arrays[STRIDED] = reduced.planes
    write_whole(Path(path), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def write_npy(path: str | os.PathLike[str], maps: ClassMaps, reduced: ClassMaps | None = None) -> None:
    """Writes the references' pickled dictionary, whole or not at all: {class: float32[H, W]}, or where there
    are maps at a quarter of the size, IRN's {'keys': int[K], 'cam': these, 'high_res': float32[K, H, W]}."""
    named: dict[Any, np.ndarray] = dict(zip(maps.class_ids.tolist(), maps.planes, strict=True))
    if reduced is not None:
        keys = maps.class_ids.astype(np.int64)  # PyTorch's type of indices
        named = {"keys": keys, "cam": reduced.planes, "high_res": maps.planes}
    content = np.array(named, dtype=object)
    write_whole(Path(path), lambda file: np.save(file, content, allow_pickle=True))


def _read_npz(path: str | os.PathLike[str], size: tuple[int, ...], background: bool) -> ClassMaps:
    largest = (MOST_CLASSES + 1) * size[0] * size[1] * np.dtype(np.float64).itemsize
    return ClassMaps(*read_npz(path, "keys", "scores" if background else "cam", largest=largest))


def _read_strided(path: str | os.PathLike[str]) -> ClassMaps | None:
    """None if the file has no such maps."""
    if str(path).endswith(".npy"):
        content = read_object_npy(map_file(os.fspath(path), os.fspath(path)))
        has_both = isinstance(content.get("cam"), np.ndarray) and "high_res" in content
        return ClassMaps(content["keys"], content["cam"]) if has_both else None
    try:
        return ClassMaps(*read_npz(path, "keys", STRIDED))
    except KeyError:
        return None


def _read_npy(path: str | os.PathLike[str]) -> ClassMaps:
    content = read_object_npy(map_file(os.fspath(path), os.fspath(path)))
    if "high_res" in content:
        class_ids, planes = content["keys"], content["high_res"]
        if not (isinstance(class_ids, np.ndarray) and isinstance(planes, np.ndarray)):
            raise ValueError
        return ClassMaps(class_ids, planes)
    if len(content) > MOST_CLASSES or any(type(key) is not int for key in content):
        raise ValueError
    found = list(content.values())
    # Of one size before they are put together, since the file may hold one under many keys.
    if not all(isinstance(plane, np.ndarray) and plane.ndim == 2 for plane in found):
        raise ValueError
    # An image without classes has an empty dictionary, which tells no size.
    planes = np.stack(found) if found else np.zeros((0, 0, 0), np.float32)
    return ClassMaps(np.array(list(content), np.int64), planes)
