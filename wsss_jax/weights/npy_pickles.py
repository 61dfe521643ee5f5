"""Reader of pickled dictionaries of arrays in `.npy` files, as `numpy.save` writes them.

The references keep class activation maps so. `numpy.load(allow_pickle=True)` would call whatever a file
names; here, as in `weights.pickles`, nothing is called that a file names. NumPy's own dtypes and arrays would
not do as what a pickle gives a state to: they allocate any shape, and hold objects.
"""

import re
from math import prod
from typing import Any, NamedTuple

import numpy as np

from wsss_jax.weights.files import WeightFile
from wsss_jax.weights.npz_files import read_header
from wsss_jax.weights.pickles import RefusedError, Stateful, unpickle
from wsss_jax.weights.torch_files import read_legacy_storage

_TYPES = re.compile(r"b1|[iu][1248]|f[248]|O8")
_MAX_EXTENT = 1 << 40


class _Type(Stateful):
    """Stand-in for a dtype."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not _TYPES.fullmatch(name):
            raise RefusedError("an array holds something but numbers")
        self.name, self.order = name, "="

    def set_state(self, state: Any) -> None:
        _, self.order, *_ = state

    @property
    def dtype(self) -> np.dtype:
        if self.name == "O8" or self.order not in ("<", ">", "|", "="):
            raise RefusedError("an array holds objects, or its type is described wrongly")
        return np.dtype(self.name).newbyteorder(self.order)


class _Array(Stateful):
    """Stand-in for an array, whose content comes as its state: (version, shape, type, order, content)."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if kind.name == "O8" and shape == () and type(content) is list:
            (self.value,) = content
        else:
            self.value = _from_bytes(content, shape, kind.dtype, bool(fortran))


class _Storage(NamedTuple):
    """A PyTorch storage."""

    dtype: np.dtype
    content: bytes


def read_object_npy(file: WeightFile) -> dict[Any, Any]:
    """The dictionary in a file that `numpy.save` made of one.

    Returns:
      Its entries; arrays are NumPy's, of any byte order, and may share numbers; keys are Python's.

    Raises:
      CheckpointError: damaged, no dictionary of arrays, or it names something to be called.
    """
    shape, _, dtype, start = read_header(file, 0, file.size, "the file")
    if shape or not dtype.hasobject:
        raise file.error(0, "holds no pickled dictionary")
    content, _ = unpickle(file, start, file.size, _ALLOWED, _no_persistent)
    content = content.value if type(content) is _Array else content
    if type(content) is not dict:
        raise file.error(start, "holds no pickled dictionary")
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
    return _from_bytes(content, (), kind.dtype, False).item()


def _encode(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, by which bytes are written for Python 2."""
    if type(text) is not str or encoding != "latin1":
        raise RefusedError("bytes are described wrongly")
    return text.encode("latin1")


def _storage(content: Any) -> _Storage:
    """The numbers of a PyTorch tensor, which IRN leaves in its files."""
    return _Storage(*read_legacy_storage(WeightFile("a tensor in the file", content)))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    if type(storage) is not _Storage or not all(map(_are_counts, ((offset,), shape, strides))):
        raise RefusedError("a tensor is described wrongly")
    if prod(shape) * storage.dtype.itemsize > len(storage.content):
        raise RefusedError("a tensor uses its numbers more than once")
    file = WeightFile("a tensor in the file", storage.content)
    return file.array(offset * storage.dtype.itemsize, shape, storage.dtype, "a tensor", strides)


def _no_persistent(identity: Any) -> Any:
    raise RefusedError("a persistent id does not occur in .npy files")


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # only mentioned
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): lambda *_: {},  # a tensor's hooks: always empty
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    **{(module, "_reconstruct"): _Array for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
}
