"""What PyTorch's pickles may name, and the tensors that they describe before any number is read."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from wsss_jax.weights.files import MAX_DIMENSIONS, WeightFile
from wsss_jax.weights.pickles import RefusedError, check_key, unpickle

STORAGE_TYPES = {
    "DoubleStorage": np.dtype("float64"),
    "FloatStorage": np.dtype("float32"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": np.dtype("bfloat16"),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
# Of storages without a type, and of the newest kind of tensors.
_DTYPES = (
    *map(str, STORAGE_TYPES.values()),
    *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"),
)


@dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors look into.

    Attributes:
      key: its name in the file.
      dtype: type of its elements.
      count: number of elements of the whole storage.
      first: where this view of it begins, in elements.
      length: how many elements the view has.
    """

    key: str
    dtype: np.dtype
    count: int
    first: int
    length: int


@dataclass(frozen=True)
class Tensor:
    """A tensor that is still to be read: a strided window of a storage, counted in elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Pickle:
    """What one pickle holds: the object, every storage that it mentions, and where the pickle ends."""

    content: Any
    storages: dict[str, Storage]
    end: int


def load_pickle(file: WeightFile, start: int, end: int) -> Pickle:
    """Reads one of PyTorch's pickles; tensors come out as `Tensor`.

    Raises:
      CheckpointError: the file names anything but tensors and plain containers, or is damaged.
    """
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        storage = _storage(identity)
        storages.setdefault(storage.key, storage)
        return storage

    content, end = unpickle(file, start, end, _ALLOWED, persistent)
    return Pickle(content, storages, end)


def _storage(identity: Any) -> Storage:
    """From ("storage", class, key, device, count[, None or (key, first, length)])."""
    if type(identity) is not tuple or identity[:1] not in (("storage",), (b"storage",)) or len(identity) > 6:
        raise RefusedError("a persistent id is no storage")
    _, dtype, key, _, count, view = (*identity, None)[:6]
    _, first, length = (key, 0, count) if view is None else view
    is_key = type(key) is str or _is_count(key)
    if not (isinstance(dtype, np.dtype) and is_key and all(map(_is_count, (count, first, length)))):
        raise RefusedError("a storage is described wrongly")
    if first + length > count:
        raise RefusedError("a view reaches beyond its storage")
    return Storage(str(key), dtype, count, first, length)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """`torch._utils._rebuild_tensor[_v2]`; gradient flag, hooks and metadata do not matter here."""
    return _tensor(storage, getattr(storage, "dtype", None), offset, shape, strides)


def _rebuild_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, dtype: Any, *___: Any
) -> Tensor:
    """`_rebuild_tensor_v3`: the storage is bytes, the type is given apart."""
    return _tensor(storage, dtype, offset, shape, strides)


def _tensor(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    sound = type(storage) is Storage and isinstance(dtype, np.dtype) and _is_count(offset)
    sound = sound and type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)
    if not sound or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, shape + strides)):
        raise RefusedError("a tensor is described wrongly")
    return Tensor(storage, dtype, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _subclass(build: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are of no use here."""
    if build not in (_rebuild, _rebuild_v3, _parameter):
        raise RefusedError("a tensor is described wrongly")
    return build(*arguments)


def _ordered(items: Any = (), *_: Any) -> dict[Any, Any]:
    return {check_key(key): value for key, value in items}


def _set(items: Any = (), *_: Any) -> frozenset[Any]:
    return frozenset(map(check_key, items))


def _size(items: Any = (), *_: Any) -> tuple[Any, ...]:
    return tuple(items)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "frozenset"): _set,
    ("__builtin__", "frozenset"): _set,
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *_: None,
    ("torch", "Tensor"): None,  # classes that are only mentioned
    ("torch.nn.parameter", "Parameter"): None,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("torch.storage", "UntypedStorage"): np.dtype(np.uint8),
    **{(module, name): t for module in ("torch", "torch.cuda") for name, t in STORAGE_TYPES.items()},
    **{("torch", name): np.dtype(name) for name in _DTYPES},
}
