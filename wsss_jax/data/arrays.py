"""Reading NumPy's files, which may be damaged or hostile, from several threads at once.

`numpy.load` allocates what a header claims before it looks for the numbers, and `zipfile` unpacks what it
finds; here nothing larger than a bound is unpacked, and headers must fit the bytes that are there.
"""

import io
import math
import os
import threading
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

# What reading a damaged file may raise; RuntimeError is zipfile's for encrypted entries.
DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

_COMPRESSED = 1 << 26  # bytes that a compressed array may take unless the caller expects more

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

# NumPy has Python's parser read an array's header, and in Python 3.11 two threads that parse at once can get
# a SystemError ("AST constructor recursion depth mismatch"). Reading and unpacking stay parallel.
_parsing = threading.Lock()


def read_npz(path: str | os.PathLike[str], *names: str, largest: int = _COMPRESSED) -> tuple[np.ndarray, ...]:
    """Reads some arrays of an .npz file, in the order asked for; pickled objects are refused.

    Args:
        path: the file.
        names: of the arrays.
        largest: bytes that an array may take; one that is not compressed may take as many as the file.

    Raises:
        any of DAMAGE: the file is missing or damaged, lacks one of the arrays, or holds a larger one.
    """
    with zipfile.ZipFile(path) as archive:
        packed = [_unpack(archive, f"{name}.npy", largest) for name in names]
    return tuple(_array(data) for data in packed)


def _unpack(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that NumPy has not")
    if entry.file_size > max(largest, entry.compress_size):
        raise ValueError(f"{name} claims {entry.file_size} bytes")
    with archive.open(entry) as stream:
        return stream.read(entry.file_size)  # without the number, all that is there, whatever was claimed


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    shape, fortran, dtype = _header(stream)
    left = len(data) - stream.tell()
    if dtype.hasobject:
        raise ValueError("an array holds pickled objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != left:
        raise ValueError("an array has not as many bytes as its shape needs")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        with _parsing:
            return _HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # Python's parser also raises SyntaxError, MemoryError and tokenize.TokenError
        raise ValueError("an array's header cannot be read") from error
