"""Reader of MXNet parameter files (`.params`), NumPy only.

A file is: u64 0x112, u64 0, u64 number of arrays, the arrays, u64 number of names (0 or as many), each name
as u64 length and UTF-8 bytes; all little-endian without padding. An array record exists in four versions; the
oldest, from before mid-2017, has no version number and is what the published ResNet-38 file uses.
"""

import math
from collections.abc import Callable

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.files import BFLOAT16, MAX_DIMENSIONS, WeightFile

MAGIC = 0x112

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_STORAGE_NAMES = {1: "row-sparse", 2: "CSR-sparse"}
_TYPES = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float64),
    2: np.dtype(np.float16),
    3: np.dtype(np.uint8),
    4: np.dtype(np.int32),
    5: np.dtype(np.int8),
    6: np.dtype(np.int64),
    7: np.dtype(np.bool_),
    12: BFLOAT16,
}
# No network has as many; a record of four bytes must not turn into a hundred bytes of objects without end.
_MAX_ARRAYS = 100_000
_SMALLEST_RECORD = 4
_SMALLEST_NAME = 8


def read_mxnet(file: WeightFile) -> dict[str, np.ndarray]:
    """Reads every array under its name, `arg:` and `aux:` included; "0", "1", ... if there are no names.

    Raises:
      CheckpointError: broken or cut-off file, a sparse array, or an element type without a NumPy counterpart.
    """
    magic, reserved, count = file.unpack("<QQQ", 0, "the header")
    if magic != MAGIC or reserved != 0:
        raise file.error(0, f"no MXNet parameter file: starts with {magic:#x}, {reserved:#x}")
    _check_count(file, 16, count, _SMALLEST_RECORD, "arrays")
    arrays, at = [], 24
    for index in range(count):
        array, at = _read_array(file, at, f"array {index}")
        arrays.append(array)
    names, at = _read_names(file, at, count)
    if at != file.size:
        raise file.error(at, f"{file.size - at} bytes follow the last name")
    return dict(zip(names, arrays, strict=True))


def _check_count(file: WeightFile, at: int, count: int, smallest: int, what: str) -> None:
    if count > min(_MAX_ARRAYS, (file.size - at) // smallest):
        raise file.error(at, f"claims {count} {what}, too many for {file.size} bytes")


def _read_array(file: WeightFile, start: int, what: str) -> tuple[np.ndarray, int]:
    (word,) = file.unpack("<I", start, what)
    read_shape = _SHAPE_READERS.get(word)
    if read_shape is None:
        shape, at = _dimensions(file, start, word, start + 4, "I", what)
    else:
        shape, at = read_shape(file, start + 4, what)
    if shape is None:
        return np.zeros((0,), np.float32), at
    _, _, flag = file.unpack("<iii", at, what)
    if flag not in _TYPES:
        raise file.error(at + 8, f"{what} has the unknown type flag {flag}")
    dtype, at = _TYPES[flag], at + 12
    return file.array(at, shape, dtype, what), at + math.prod(shape) * dtype.itemsize


# A shape of None is an array without numbers whose record ends at the shape.
_Shape = tuple[tuple[int, ...] | None, int]


def _shape_v1(file: WeightFile, at: int, what: str) -> _Shape:
    (number,) = file.unpack("<I", at, what)
    return _dimensions(file, at, number, at + 4, "q", what)


def _shape_v2(file: WeightFile, at: int, what: str) -> _Shape:
    _refuse_sparse(file, at, what)
    return _shape_v1(file, at + 4, what)


def _shape_v3(file: WeightFile, at: int, what: str) -> _Shape:
    """From MXNet 1.6 with NumPy semantics: no dimensions is a scalar, -1 dimensions is no array."""
    _refuse_sparse(file, at, what)
    (number,) = file.unpack("<i", at + 4, what)
    if number <= 0:
        return (() if number == 0 else None), at + 8
    return _dimensions(file, at + 4, number, at + 8, "q", what)


_SHAPE_READERS: dict[int, Callable[[WeightFile, int, str], _Shape]] = {
    _V1: _shape_v1,
    _V2: _shape_v2,
    _V3: _shape_v3,
}


def _refuse_sparse(file: WeightFile, at: int, what: str) -> None:
    (storage,) = file.unpack("<i", at, what)
    if storage != 0:
        kind = _STORAGE_NAMES.get(storage, f"stored in the unknown way {storage}")
        raise file.error(at, f"{what} is {kind}; only dense arrays are read")


def _dimensions(file: WeightFile, start: int, number: int, at: int, letter: str, what: str) -> _Shape:
    if number > MAX_DIMENSIONS:
        raise file.error(start, f"{what} has {number} dimensions, or an unknown version")
    if number == 0:
        return None, at
    shape = file.unpack(f"<{number}{letter}", at, what)
    return shape, at + number * (4 if letter == "I" else 8)


def _read_names(file: WeightFile, at: int, count: int) -> tuple[list[str], int]:
    (number,) = file.unpack("<Q", at, "the number of names")
    if number == 0:
        return [str(index) for index in range(count)], at + 8
    if number != count:
        raise file.error(at, f"{number} names for {count} arrays")
    _check_count(file, at, number, _SMALLEST_NAME, "names")
    names: dict[str, None] = {}
    at += 8
    for _ in range(number):
        name, at = _read_name(file, at)
        if name in names:
            raise file.error(at, f"the name {name!r} occurs twice")
        names[name] = None
    return list(names), at


def _read_name(file: WeightFile, at: int) -> tuple[str, int]:
    (length,) = file.unpack("<Q", at, "a name's length")
    raw = file.read(at + 8, length, "a name")
    try:
        return raw.decode(), at + 8 + length
    except UnicodeDecodeError as error:
        raise _bad_name(file, at, error) from error


def _bad_name(file: WeightFile, at: int, error: UnicodeDecodeError) -> CheckpointError:
    return file.error(at + 8 + error.start, "a name is not UTF-8")
