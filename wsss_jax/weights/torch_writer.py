"""Writes state dicts as PyTorch checkpoints (`.pth`, the zip container of 1.6 and later), without PyTorch.

Python's own pickler wants to import what it names, so the pickle is put together here: a dictionary of calls
to `torch._utils._rebuild_tensor_v2`, one storage for each array, as `torch.save` writes them.
"""

import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.files import c_strides, owned, raw_bytes, release_pages
from wsss_jax.weights.torch_pickle import STORAGE_TYPES

_STORAGES = {dtype: name for name, dtype in STORAGE_TYPES.items()}
_NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def write_torch(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors in C order, which `torch.load` and `load_state_dict` take as they are.

    Raises:
      CheckpointError: PyTorch has no storage for a tensor's type.
    """
    storages = {id(array): array for array in tensors.values()}  # names of one array share its storage
    keys = {each: str(i) for i, each in enumerate(storages)}
    entries = [_text(name) + _tensor(name, keys[id(array)], array) for name, array in tensors.items()]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}(" + b"".join(entries) + b"u.")
        archive.writestr("archive/byteorder", sys.byteorder)
        for key, tensor in zip(keys.values(), storages.values(), strict=True):
            array = tensor if tensor.flags.c_contiguous else owned(tensor)
            with archive.open(f"archive/data/{key}", "w", force_zip64=True) as entry:
                entry.write(raw_bytes(array))
            release_pages(tensor)
        archive.writestr("archive/version", b"3\n")


def _tensor(name: str, key: str, array: np.ndarray) -> bytes:
    """The call that makes a tensor of the storage `key`: no offset, no gradient, no hooks."""
    if array.dtype not in _STORAGES:
        raise CheckpointError(f"{name}: PyTorch's files have no storage of {array.dtype}")
    kind = f"ctorch\n{_STORAGES[array.dtype]}\n".encode()
    storage = b"(" + _text("storage") + kind + _text(key) + _text("cpu") + _integer(array.size) + b"tQ"
    layout = _integers(array.shape) + _integers(c_strides(array.shape))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _integer(0) + layout + b"\x89" + _NO_HOOKS + b"tR"
    )


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _integers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
