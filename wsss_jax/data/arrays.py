"""Reading NumPy's files from several threads at once."""

import io
import os
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np

# What reading a damaged file may raise.
DAMAGE = (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)

# NumPy has Python's parser read an array's header, and in Python 3.11 two threads that parse at once can get
# a SystemError ("AST constructor recursion depth mismatch"). Reading and unpacking stay parallel.
_parsing = threading.Lock()


def read_npz(path: str | os.PathLike[str], *names: str) -> tuple[np.ndarray, ...]:
    """Reads some arrays of an .npz file, in the order asked for; pickled objects are refused.

    Raises:
        any of DAMAGE: the file is missing or damaged, or lacks one of the arrays.
    """
    with zipfile.ZipFile(path) as archive:
        packed = [archive.read(f"{name}.npy") for name in names]
    return tuple(_array(data) for data in packed)


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads the array of an .npy file; pickled objects are refused.

    Raises:
        any of DAMAGE: the file is missing or damaged.
    """
    return _array(Path(path).read_bytes())


def _array(data: bytes) -> np.ndarray:
    with _parsing:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
