"""What PyTorch's pickles may name, and the tensors that they describe before any number is read."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from wsss_jax.weights.files import BFLOAT16, MAX_DIMENSIONS, WeightFile
from wsss_jax.weights.pickles import Callee, RefusedError, check_key, unpickle

STORAGE_TYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
    "uint64": np.dtype(np.uint64),
    "uint32": np.dtype(np.uint32),
    "uint16": np.dtype(np.uint16),
    "uint8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class StorageType:
    """Stand-in for a storage class, or for a dtype object; bytes if the class is untyped."""

    dtype: np.dtype


@dataclass(frozen=True)
class Storage:
    """A run of numbers that tensors look into.

    Attributes:
      key: its name in the file.
      dtype: type of its elements.
      count: number of elements of the whole storage.
      first: where this view of it begins, in elements.
      length: how many elements the view has.
      place: offset of the pickle operation that named it.
    """

    key: str
    dtype: np.dtype
    count: int
    first: int
    length: int
    place: int


@dataclass(frozen=True)
class Tensor:
    """A tensor that is still to be read: a strided window of a storage, counted in elements of `dtype`."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name:
    """Stand-in for a class that is only mentioned."""


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

    def persistent(identity: Any, place: int) -> Storage:
        storage = _storage(file, identity, place)
        storages.setdefault(storage.key, storage)
        return storage

    content, end = unpickle(file, start, end, _ALLOWED, persistent)
    return Pickle(content, storages, end)


def _storage(file: WeightFile, identity: Any, place: int) -> Storage:
    """From ("storage", class, key, device, count[, None or (key, first, length)])."""
    if (
        type(identity) is not tuple
        or len(identity) not in (5, 6)
        or identity[0] not in ("storage", b"storage")
    ):
        raise file.error(place, "a persistent id is no storage")
    kind, key, _, count = identity[1:5]
    if type(kind) is not StorageType or type(key) not in (str, int) or not _is_count(count):
        raise file.error(place, "a storage is described wrongly")
    first, length = 0, count
    view = identity[5] if len(identity) == 6 else None
    if view is not None:
        if type(view) is not tuple or len(view) != 3 or not (_is_count(view[1]) and _is_count(view[2])):
            raise file.error(place, "a view of a storage is described wrongly")
        first, length = view[1:]
    if first + length > count:
        raise file.error(place, "a view reaches beyond its storage")
    return Storage(_key(file, key, place), kind.dtype, count, first, length, place)


def _key(file: WeightFile, key: str | int, place: int) -> str:
    if type(key) is int and abs(key) >= 1 << 64:
        raise file.error(place, "a storage is described wrongly")
    return str(key)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 60


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """`torch._utils._rebuild_tensor[_v2]`; gradient flag, hooks and metadata do not matter here."""
    dtype = storage.dtype if type(storage) is Storage else None
    return _checked(storage, dtype, offset, shape, strides)


def _rebuild_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, kind: Any, *___: Any
) -> Tensor:
    """`_rebuild_tensor_v3`: the storage is bytes, the type is given apart."""
    return _checked(storage, kind.dtype if type(kind) is StorageType else None, offset, shape, strides)


def _checked(storage: Any, dtype: np.dtype | None, offset: Any, shape: Any, strides: Any) -> Tensor:
    sound = type(storage) is Storage and dtype is not None and _is_count(offset)
    sound = sound and type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)
    if not sound or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, shape + strides)):
        raise RefusedError("a tensor is described wrongly")
    assert dtype is not None
    return Tensor(storage, dtype, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Tensor:
    if type(data) is not Tensor:
        raise RefusedError("a parameter is no tensor")
    return data


def _subclass(build: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are of no use here."""
    if type(build) is not Callee or build is _SUBCLASS or type(arguments) is not tuple:
        raise RefusedError("a tensor is described wrongly")
    return build(*arguments)


def _ordered(items: Any = (), *_: Any) -> dict[Any, Any]:
    pairs = (
        [pair for pair in items if type(pair) in (list, tuple) and len(pair) == 2]
        if _is_sequence(items)
        else []
    )
    if not _is_sequence(items) or len(pairs) != len(items):
        raise RefusedError("an OrderedDict is described wrongly")
    return {check_key(key): value for key, value in pairs}


def _set(items: Any = (), *_: Any) -> frozenset[Any]:
    if not _is_sequence(items):
        raise RefusedError("a set is described wrongly")
    return frozenset(map(check_key, items))


def _size(items: Any = (), *_: Any) -> tuple[Any, ...]:
    if not _is_sequence(items):
        raise RefusedError("a torch.Size is described wrongly")
    return tuple(items)


def _is_sequence(value: Any) -> bool:
    return type(value) in (list, tuple)


_SUBCLASS = Callee(_subclass)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Callee(_ordered),
    ("builtins", "set"): Callee(_set),
    ("__builtin__", "set"): Callee(_set),
    ("builtins", "frozenset"): Callee(_set),
    ("__builtin__", "frozenset"): Callee(_set),
    ("torch", "Size"): Callee(_size),
    ("torch", "device"): Callee(lambda *_: None),
    ("torch", "Tensor"): _Name(),
    ("torch.nn.parameter", "Parameter"): _Name(),
    ("torch._utils", "_rebuild_tensor"): Callee(_rebuild),
    ("torch._utils", "_rebuild_tensor_v2"): Callee(_rebuild),
    ("torch._utils", "_rebuild_tensor_v3"): Callee(_rebuild_v3),
    ("torch._utils", "_rebuild_parameter"): Callee(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Callee(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _SUBCLASS,
    ("torch.storage", "UntypedStorage"): StorageType(np.dtype(np.uint8)),
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    **{("torch.cuda", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    **{("torch", name): StorageType(dtype) for name, dtype in _DTYPES.items()},
}
