"""Reader and writer of NumPy archives (`.npz`) of tensors; no pickled objects."""

import io
import os
import threading
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from wsss_jax.weights.files import BFLOAT16, WeightFile, checked_shape, release_pages
from wsss_jax.weights.zips import Archive, is_mapped

_MAX_HEADER = 1 << 14  # NumPy reads none longer than 10,000 bytes
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# NumPy has Python's parser read headers, of which Python 3.11 cannot run two at once in threads.
_parsing = threading.Lock()


def read_npz(archive: Archive, verify: bool = False) -> dict[str, np.ndarray]:
    """Reads every array; stored ones are mapped, compressed ones unpacked and their checksums compared.

    With `verify`, the checksums of stored ones are compared too.

    Raises:
      CheckpointError: damaged archive, pickled objects, or an entry that is no array.
    """
    arrays, file = {}, archive.file
    for name, entry in archive.entries.items():
        if not name.endswith(".npy"):
            raise file.error(entry.header_offset, f"{name[:80]!r} is no array")
        if is_mapped(entry):
            if verify:
                archive.verify(entry)
            start = archive.place(entry)
            array = _read_array(file, start, start + entry.file_size, name[:80])
        else:
            unpacked = WeightFile(f"{file.name}: {name}", archive.read(entry))
            array = _read_array(unpacked, 0, unpacked.size, name[:80])
        arrays[name.removesuffix(".npy")] = array
    return arrays


def write_npz(path: str | os.PathLike[str] | BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed archive; bfloat16, which the format cannot hold, becomes float32."""
    with zipfile.ZipFile(path, "w") as archive:  # one after the other, unlike np.savez, to release the pages
        for name, tensor in tensors.items():
            array = tensor.astype(np.float32) if tensor.dtype == BFLOAT16 else tensor
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
            release_pages(tensor)


def read_header(
    file: WeightFile, at: int, end: int, what: str
) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Reads an .npy header.

    Returns:
      Shape, whether in Fortran's order, type, and the offset of the numbers.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    stream = io.BytesIO(file.read(at, min(end - at, _MAX_HEADER), what))
    try:
        with _parsing:
            header = _READERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # Python's parser also raises SyntaxError, MemoryError and tokenize.TokenError
        raise file.error(at, f"{what} has a damaged header: {error}") from error
    return *header, at + stream.tell()


def _read_array(file: WeightFile, start: int, end: int, what: str) -> np.ndarray:
    shape, fortran, dtype, at = read_header(file, start, end, what)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise file.error(start, f"{what} holds something but numbers")
    size = checked_shape(file, at, shape, dtype, what)
    if size != end - at:
        raise file.error(at, f"{what} has {end - at} bytes, its shape needs {size}")
    big_endian, dtype = dtype.byteorder == ">", dtype.newbyteorder("=")
    array = file.array(at, shape[::-1] if fortran else shape, dtype, what, big_endian=big_endian)
    return array.T if fortran else array
