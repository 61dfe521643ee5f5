"""Files of class activation maps, ours and other people's. Imports no JAX."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsss_jax.data.arrays import DAMAGE, read_npz
from wsss_jax.errors import CheckpointError, DataError
from wsss_jax.weights.files import map_file
from wsss_jax.weights.npy_pickles import read_object_npy

SUFFIXES = (".npz", ".npy")
MOST_CLASSES = 254
"""That 8-bit label maps hold beside background and void."""
_ROUNDING = 1e-3  # by which a map may exceed 1


class Maps(NamedTuple):
    """The maps of one picture's classes."""

    keys: np.ndarray  # int32[K], 0-based classes, ascending
    cam: np.ndarray  # float32[K, H, W]


def read_maps(path: str | os.PathLike[str], image_id: str, size: tuple[int, int]) -> Maps:
    """Reads and checks the maps of a picture.

    Args:
      path: .npz with `keys` int[K] and `cam` float[K, H, W], or a .npy file with a pickled dictionary
        {class: float[H, W]} (psa, SC-CAM, OC-CSE) or {'keys': int[K], 'high_res': float[K, H, W]} (IRN). No
        code of a pickle is run.
      image_id: named in errors.
      size: (H, W) of the picture.

    Raises:
      DataError: the file is missing, damaged, of another size or holds what cannot be scores.
    """
    where = f"maps of image {image_id!r}: {os.fspath(path)}"
    if not Path(path).exists():
        raise DataError(f"{where} is missing")
    try:
        keys, cam = _read_npy(path) if str(path).endswith(".npy") else _read_npz(path, size)
    except CheckpointError as error:  # tells the file and the place
        raise DataError(f"maps of image {image_id!r}: {error}; make the file again") from error
    except DAMAGE as error:
        raise DataError(f"{where} is damaged or holds no maps; make it again") from error
    return _checked(keys, cam, size, where)


def check_classes(maps: Maps, num_classes: int, image_id: str) -> None:
    """Raises DataError if a key is not below the number of classes."""
    if len(maps.keys) and maps.keys[-1] >= num_classes:
        raise DataError(
            f"maps of image {image_id!r} have the class {maps.keys[-1]}, but classes are 0 to "
            f"{num_classes - 1}; were they made on another data set?"
        )


def _read_npz(path: str | os.PathLike[str], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    largest = MOST_CLASSES * size[0] * size[1] * np.dtype(np.float64).itemsize
    keys, cam = read_npz(path, "keys", "cam", largest=largest)
    return keys, cam


def _read_npy(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    content = read_object_npy(map_file(os.fspath(path), os.fspath(path)))
    if "high_res" in content:
        keys, cam = content["keys"], content["high_res"]
        if not (isinstance(keys, np.ndarray) and isinstance(cam, np.ndarray)):
            raise ValueError
        return keys, cam
    if len(content) > MOST_CLASSES or any(type(key) is not int for key in content):
        raise ValueError
    planes = list(content.values())
    # Of one size before they are put together, since the file may hold one under many keys.
    if not all(isinstance(plane, np.ndarray) and plane.ndim == 2 for plane in planes):
        raise ValueError
    # A picture without classes has an empty dictionary, which tells no size.
    return np.array(list(content), np.int64), np.stack(planes) if planes else np.zeros((0, 0, 0), np.float32)


def _checked(keys: np.ndarray, cam: np.ndarray, size: tuple[int, int], where: str) -> Maps:
    if cam.ndim != 3 or keys.shape != cam.shape[:1] or len(keys) > MOST_CLASSES:
        raise DataError(
            f"{where} has keys {list(keys.shape)} for maps {list(cam.shape)}; expected K and K, H, W"
        )
    if not len(keys):
        return Maps(np.zeros(0, np.int32), np.zeros((0, *size), np.float32))
    if cam.shape[1:] != size:
        raise DataError(
            f"{where} holds maps of {cam.shape[2]}x{cam.shape[1]} pixels, but the image is {size[1]}x"
            f"{size[0]} (width x height); make them at the image's size"
        )
    if not np.issubdtype(keys.dtype, np.integer) or keys.min() < 0 or len(np.unique(keys)) < len(keys):
        raise DataError(f"{where} has the keys {keys.tolist()}; expected different classes, counted from 0")
    if not np.issubdtype(cam.dtype, np.floating) or not np.isfinite(cam).all():
        raise DataError(f"{where} holds {cam.dtype} values that are no finite scores; make it again")
    if cam.max() > 1 + _ROUNDING:
        raise DataError(
            f"{where} reaches {cam.max():.4g}; scores must be at most 1: divide each by its maximum"
        )
    order = np.argsort(keys)
    return Maps(keys[order].astype(np.int32), cam[order].astype(np.float32, copy=False))
