"""Reader and writer of NumPy archives (`.npz`) of tensors; no pickled objects."""

import os
import re
import zipfile
from collections.abc import Mapping
from math import prod
from typing import IO, BinaryIO

import numpy as np

from wsss_jax.weights import zips
from wsss_jax.weights.files import (
    BFLOAT16,
    WeightFile,
    check_total,
    checked_shape,
    owned,
    pieces,
    release_pages,
)

MAGIC = b"\x93NUMPY"

_MAX_HEADER = 4096
_SHAPE = rb"\((?:(\d{1,18}(?:, ?\d{1,18})*),?)?\)"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([biuf])(\d{1,2})', 'fortran_order': (True|False), 'shape': "
    + _SHAPE
    + rb",? *\} *\n?"
)
_KINDS = {
    b"b1",
    *(b"i%d" % n for n in (1, 2, 4, 8)),
    *(b"u%d" % n for n in (1, 2, 4, 8)),
    b"f2",
    b"f4",
    b"f8",
}


def read_npz(file: WeightFile, verify: bool = False) -> dict[str, np.ndarray]:
    """Reads every array; stored ones are mapped, compressed ones unpacked and their checksums compared.

    With `verify`, the checksums of stored ones are compared too.

    Raises:
      CheckpointError: damaged archive, pickled objects, or an entry that is no array.
    """
    arrays = {}
    for entry in zips.read_index(file).values():
        if not entry.name.endswith(".npy"):
            raise file.error(entry.offset, f"{entry.name[:80]!r} is no array")
        if verify and not entry.deflated:
            zips.verify_entry(file, entry)
        arrays[entry.name.removesuffix(".npy")] = _read_array(file, entry)
    check_total(file, arrays)
    return arrays


def write_npz(path: str | os.PathLike[str] | BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed archive; bfloat16, which the format cannot hold, becomes float32."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in tensors.items():
            array = np.asarray(tensor)
            array = array.astype(np.float32) if array.dtype == BFLOAT16 else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                _write_array(stream, array if array.flags.c_contiguous else owned(array))
            release_pages(tensor)


def _write_array(stream: IO[bytes], array: np.ndarray) -> None:
    """What `numpy.lib.format.write_array` does, without its copy in small pieces."""
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    for piece in pieces(array):
        stream.write(piece)


def _read_array(file: WeightFile, entry: zips.Entry) -> np.ndarray:
    if not entry.deflated:
        return _parse(file, entry.offset, entry.offset + entry.stored, entry.name)
    unpacked = WeightFile(
        f"{file.name}: {entry.name}", zips.read_entry(file, entry, zips.MAX_RATIO * file.size)
    )
    return _parse(unpacked, 0, unpacked.size, entry.name)


def _parse(file: WeightFile, at: int, end: int, what: str) -> np.ndarray:
    what = what[:80]
    if file.read(at, 6, what) != MAGIC:
        raise file.error(at, f"{what} is no array")
    (major,) = file.unpack("<B", at + 6, what)
    if major not in (1, 2, 3):
        raise file.error(at, f"{what} has the unknown format version {major}")
    (length,) = file.unpack("<H" if major == 1 else "<I", at + 8, what)
    at += 10 if major == 1 else 12
    match = _HEADER.fullmatch(file.read(at, min(length, _MAX_HEADER), what))
    if match is None or match[2] + match[3] not in _KINDS:
        raise file.error(at, f"{what} has a damaged header, or holds something but numbers")
    return _view(file, at + length, end, what, match)


def _view(file: WeightFile, at: int, end: int, what: str, match: re.Match[bytes]) -> np.ndarray:
    shape = tuple(map(int, match[5].split(b","))) if match[5] else ()
    dtype = np.dtype((match[2] + match[3]).decode())
    checked_shape(file, at, shape, dtype, what)
    if prod(shape) * dtype.itemsize != end - at:
        raise file.error(at, f"{what} has {end - at} bytes, its shape needs {prod(shape) * dtype.itemsize}")
    fortran = match[4] == b"True"
    array = file.array(at, shape[::-1] if fortran else shape, dtype, what, big_endian=match[1] == b">")
    return array.T if fortran else array
