"""Reader of pickled dictionaries of arrays in `.npy` files, as `numpy.save` writes them.

The references keep class activation maps so. `numpy.load(allow_pickle=True)` would call whatever a file
names; here, as in `weights.pickles`, nothing is called that a file names.
"""

import re
from math import prod
from typing import Any, NamedTuple

import numpy as np

from wsss_jax.weights.files import WeightFile
from wsss_jax.weights.pickles import Callee, RefusedError, Stateful, unpickle
from wsss_jax.weights.torch_files import read_legacy_storage

_HEADER = re.compile(rb"\{'descr': '\|O', 'fortran_order': (?:True|False), 'shape': \(\)(?:, )?,? *\} *\n?")
_MAGIC = b"\x93NUMPY"
_TYPES = re.compile(r"b1|[iu][1248]|f[248]")
_MAX_EXTENT = 1 << 40


class _Type(Stateful):
    """Stand-in for a dtype."""

    def __init__(self, name: Any, *_: Any) -> None:
        if type(name) is not str or not (_TYPES.fullmatch(name) or name == "O8"):
            raise RefusedError("an array holds something but numbers")
        self.name, self.big_endian = name, False

    def set_state(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RefusedError("the type of an array is described wrongly")
        self.big_endian = state[1] == ">"

    @property
    def dtype(self) -> np.dtype:
        if self.name == "O8":
            raise RefusedError("an array inside the dictionary holds objects")
        return np.dtype((">" if self.big_endian else "<") + self.name)


class _Array(Stateful):
    """Stand-in for an array, whose content comes as its state: (version, shape, type, order, content)."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def set_state(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[2]) is not _Type:
            raise RefusedError("an array is described wrongly")
        _, shape, kind, fortran, content = state
        if kind.name == "O8" and shape == () and type(content) is list and len(content) == 1:
            self.value = content[0]
        else:
            self.value = _from_bytes(content, shape, kind.dtype, bool(fortran))


def read_object_npy(file: WeightFile) -> dict[Any, Any]:
    """The dictionary in a file that `numpy.save` made of one.

    Returns:
      Its entries; arrays are NumPy's, of any byte order, and may share numbers; keys are Python's.

    Raises:
      CheckpointError: damaged, no dictionary of arrays, or it names something to be called.
    """
    if file.read(0, 6, "the header") != _MAGIC:
        raise file.error(0, "is no .npy file")
    (major,) = file.unpack("<B", 6, "the header")
    layout, start = ("<H", 10) if major == 1 else ("<I", 12)
    (length,) = file.unpack(layout, 8, "the header")
    if not _HEADER.fullmatch(file.read(start, min(length, 4096), "the header")):
        raise file.error(start, "holds no pickled dictionary")
    content, _ = unpickle(file, start + length, file.size, _ALLOWED, _no_persistent)
    content = content.value if type(content) is _Array else content
    if type(content) is not dict:
        raise file.error(start + length, "holds no pickled dictionary")
    return {key: value.value if type(value) is _Array else value for key, value in content.items()}


def _from_bytes(content: Any, shape: Any, dtype: np.dtype, fortran: bool) -> np.ndarray:
    """A view of the bytes, in their own byte order."""
    if not _are_counts(shape) or type(content) is not bytes or len(content) != prod(shape) * dtype.itemsize:
        raise RefusedError("an array does not have as many numbers as its shape says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _are_counts(shape: Any) -> bool:
    """Whether this can be a shape; none that maps have is long, or has extents whose product takes long."""
    return (
        type(shape) is tuple
        and len(shape) <= 4
        and all(type(n) is int and 0 <= n <= _MAX_EXTENT for n in shape)
    )


def _scalar(kind: Any, content: Any, *_: Any) -> Any:
    """A NumPy number, such as a class index that was never made a Python one."""
    if type(kind) is not _Type:
        raise RefusedError("a number is described wrongly")
    return _from_bytes(content, (), kind.dtype, False).item()


def _encode(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, by which bytes are written for Python 2."""
    if type(text) is not str or encoding != "latin1":
        raise RefusedError("bytes are described wrongly")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise RefusedError("bytes are described wrongly") from error


def _storage(content: Any) -> "_Storage":
    """The numbers of a PyTorch tensor, which IRN leaves in its files."""
    if type(content) is not bytes:
        raise RefusedError("a tensor is described wrongly")
    return _Storage(*read_legacy_storage(WeightFile("a tensor in the file", content)))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    if type(storage) is not _Storage or not all(map(_are_counts, ((offset,), shape, strides))):
        raise RefusedError("a tensor is described wrongly")
    if prod(shape) * storage.dtype.itemsize > len(storage.content):
        raise RefusedError("a tensor uses its numbers more than once")
    file = WeightFile("a tensor in the file", storage.content)
    return file.array(offset * storage.dtype.itemsize, shape, storage.dtype, "a tensor", strides)


def _no_persistent(identity: Any, place: int) -> Any:
    raise RefusedError("a persistent id does not occur in .npy files")


class _Storage(NamedTuple):
    """A PyTorch storage."""

    dtype: np.dtype
    content: bytes


def _ordered(*_: Any) -> dict[Any, Any]:
    """`OrderedDict()`, a tensor's hooks: always empty."""
    return {}


class _Name:
    """Stand-in for a class that is only mentioned."""


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Name(),
    ("numpy", "dtype"): Callee(_Type),
    ("_codecs", "encode"): Callee(_encode),
    ("collections", "OrderedDict"): Callee(_ordered),
    ("torch._utils", "_rebuild_tensor_v2"): Callee(_tensor),
    ("torch.storage", "_load_from_bytes"): Callee(_storage),
    **{(module, "_reconstruct"): Callee(_Array) for module in _MODULES},
    **{(module, "scalar"): Callee(_scalar) for module in _MODULES},
}
