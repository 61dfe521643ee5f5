"""Bounded, memory-mapped access to weight files.

Every length that a file claims is checked against the bytes that are really there before anything is
allocated, and every message names the file, the offset and the reason. Arrays are read-only views of the
mapped file.
"""

import contextlib
import hashlib
import math
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from wsss_jax.errors import CheckpointError

MAX_DIMENSIONS = 32
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Several names may share numbers (tied weights, expanded views), so the arrays may hold more bytes than the
# file; without a bound a few bytes could stand for terabytes. Tied names in published files come to 3 times
# the file.
_SHARED_FACTOR = 8
_SHARED_SLACK = 1 << 20
_WORTH_RELEASING = 1 << 20


@dataclass(frozen=True)
class WeightFile:
    """A file mapped into memory.

    Attributes:
      name: what the user called it; used in messages.
      data: its bytes; nothing is read before it is touched.
    """

    name: str
    data: mmap.mmap | bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def error(self, offset: int, reason: str) -> CheckpointError:
        """The error that says where in the file something is wrong."""
        return CheckpointError(f"{self.name}: offset {offset}: {reason}")

    def need(self, offset: int, size: int, what: str) -> None:
        """Raises CheckpointError unless `size` bytes lie at `offset`."""
        if offset < 0 or size < 0 or offset + size > self.size:
            left = max(0, self.size - offset)
            raise self.error(offset, f"{what} needs {size} bytes, {left} are left (cut off or damaged file)")

    def unpack(self, layout: str, offset: int, what: str) -> tuple[Any, ...]:
        """Reads numbers by a `struct` layout."""
        self.need(offset, struct.calcsize(layout), what)
        return struct.unpack_from(layout, self.data, offset)

    def read(self, offset: int, size: int, what: str) -> bytes:
        """Copies bytes out; meant for names and headers, not for numbers."""
        self.need(offset, size, what)
        return self.data[offset : offset + size]

    def array(
        self,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype,
        what: str,
        strides: tuple[int, ...] | None = None,
        end: int | None = None,
        big_endian: bool = False,
    ) -> np.ndarray:
        """A view of the file's bytes as an array of native byte order.

        Args:
          offset: where the first element lies.
          shape: its shape; not trusted.
          dtype: type of the elements.
          what: name for messages.
          strides: distances in elements, as PyTorch stores them; None means C order.
          end: end of the region in which every element must lie; None is the end of the file.
          big_endian: the file's numbers have the other byte order; the array is then a copy.

        Raises:
          CheckpointError: an element would lie outside, or a number makes no sense.
        """
        checked_shape(self, offset, shape, dtype, what)
        if strides is None:
            strides = c_strides(shape)
        if len(strides) != len(shape) or min(strides, default=0) < 0:
            raise self.error(offset, f"{what} has strides {_brief(strides)} for shape {_brief(shape)}")
        if 0 in shape:
            return np.zeros(shape, dtype)
        last = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        self.need(offset, (last + 1) * dtype.itemsize, what)
        if end is not None and offset + (last + 1) * dtype.itemsize > end:
            raise self.error(offset, f"{what} reaches beyond its storage")
        # A stride over an extent of 1 is never taken and may be any number.
        steps = [s * dtype.itemsize if n > 1 else dtype.itemsize for n, s in zip(shape, strides, strict=True)]
        stored = _stored_type(dtype, big_endian)
        view = np.ndarray(shape, stored, self.data, offset, steps)
        return _native(view, dtype, big_endian)


def checked_shape(file: WeightFile, offset: int, shape: tuple[int, ...], dtype: np.dtype, what: str) -> int:
    """Bytes of an array; raises CheckpointError for a shape that NumPy could not represent."""
    if len(shape) > MAX_DIMENSIONS or any(type(extent) is not int or extent < 0 for extent in shape):
        raise file.error(offset, f"{what} has the impossible shape {_brief(shape)}")
    if math.prod(extent for extent in shape if extent) * dtype.itemsize >= 1 << 62:
        raise file.error(offset, f"{what} has the impossible shape {_brief(shape)}")
    return math.prod(shape) * dtype.itemsize


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Distances in elements between neighbours along each axis of a C-ordered array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def check_total(file: WeightFile, total: int) -> None:
    """Raises CheckpointError if shared storages stand for far more bytes than the file holds."""
    if total > _SHARED_FACTOR * file.size + _SHARED_SLACK:
        raise file.error(0, f"the tensors would take {total} bytes, the file has {file.size}")


def map_file(local: str, name: str) -> WeightFile:
    """Maps a local file that messages call `name`."""
    if os.path.isdir(local):
        raise CheckpointError(f"{name}: is a folder, not a weight file (Orbax folders are read by init_from)")
    try:
        with open(local, "rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                raise CheckpointError(f"{name}: offset 0: the file is empty")
            return WeightFile(name, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def local_copy(name: str) -> Iterator[str]:
    """Path of a local file with the content of `name`; remote paths are copied through etils.epath."""
    if "://" not in name:
        yield name
        return
    from etils import epath  # here, so that local files do not pay for its import

    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(name) or "weights")
        try:
            epath.Path(name).copy(local)
        except (OSError, ImportError) as error:
            raise CheckpointError(f"{name}: cannot be read: {error}") from error
        yield local


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with local_copy(os.fspath(path)) as local, open(local, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def release_pages(array: np.ndarray) -> None:
    """Gives the memory of a mapped file behind `array` back to the system; it is read again when touched.

    Keeps a conversion's peak memory at one copy of the numbers. Does nothing for arrays that own their
    numbers.
    """
    if array.nbytes < _WORTH_RELEASING:
        return
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def owned(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """A C-ordered copy, of another type if one is given; the mapped pages behind the array are given back."""
    copy = np.array(array, dtype, order="C")
    release_pages(array)
    return copy


def raw_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a C-ordered array of any type."""
    return array.reshape(-1).view(np.uint8).data


def is_floating(array: np.ndarray) -> bool:
    """Whether it holds floating-point numbers, bfloat16 included."""
    return array.dtype.kind == "f" or array.dtype == BFLOAT16


def _stored_type(dtype: np.dtype, big_endian: bool) -> np.dtype:
    if big_endian and dtype.itemsize > 1:
        return np.dtype(f">u{dtype.itemsize}")
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _native(view: np.ndarray, dtype: np.dtype, big_endian: bool) -> np.ndarray:
    if big_endian and dtype.itemsize > 1:
        return view.astype(f"<u{dtype.itemsize}").view(dtype)
    # Bytes other than 0 and 1 are no valid NumPy booleans.
    return view != 0 if dtype == np.bool_ else view


def _brief(numbers: tuple[Any, ...]) -> str:
    """A shape for messages: neither long nor with endless digits."""
    words = [str(n) if type(n) is int and abs(n) < 1 << 64 else "?" for n in numbers[:8]]
    return "(" + ", ".join(words) + (", ..." if len(numbers) > 8 else "") + ")"
