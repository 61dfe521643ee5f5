"""Readers of PyTorch checkpoints (`.pth`, `.pt`), NumPy only: the zip container and the format before 1.6.

The zip container holds `data.pkl`, `byteorder` and the raw numbers of each storage in `data/<key>`. The older
format is a stream: four pickles (magic number, protocol, system, the object), a pickled list of storage keys,
then for each key a u64 count and the numbers, little-endian on every machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from wsss_jax.weights import zips
from wsss_jax.weights.files import WeightFile, check_expansion, check_total, checked_shape
from wsss_jax.weights.torch_pickle import Pickle, Storage, Tensor, load_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Keys under which training scripts put the state dict, the usual ones first.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "ema_state_dict",
    "teacher",
    "student",
)
_MAX_WRAPPING = 4


@dataclass(frozen=True)
class _Region:
    """Where the bytes of a storage lie."""

    offset: int
    size: int


def read_torch_zip(file: WeightFile, verify: bool = False) -> dict[str, np.ndarray]:
    """Reads the state dict of a zip container; with `verify`, the checksums of its numbers too.

    Raises:
      CheckpointError: see `read_tensors`.
    """
    entries = zips.read_index(file)
    root = _root(file, entries)
    pickle = entries[root + "data.pkl"]
    if pickle.deflated:
        raise file.error(pickle.offset, f"{pickle.name} is compressed; PyTorch stores it")
    zips.verify_entry(file, pickle)
    content = load_pickle(file, pickle.offset, pickle.offset + pickle.stored).content
    state = find_state_dict(file, content)
    regions = {}
    for storage in _storages(state):
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.deflated:
            raise file.error(storage.place, f"the archive has no usable entry {root}data/{storage.key}")
        if verify:
            zips.verify_entry(file, entry)
        regions[storage.key] = _Region(entry.offset, entry.stored)
    return _arrays(file, state, regions, _is_big_endian(file, entries.get(root + "byteorder")))


def read_torch_legacy(file: WeightFile) -> dict[str, np.ndarray]:
    """Reads the state dict of a file written before PyTorch 1.6, or with its old format.

    Raises:
      CheckpointError: see `read_tensors`.
    """
    body = _legacy_body(file)
    state = find_state_dict(file, body.content)
    return _arrays(file, state, _legacy_regions(file, body), big_endian=False)


def read_legacy_storage(file: WeightFile) -> tuple[np.dtype, bytes]:
    """Type and numbers of a storage saved by itself, as PyTorch does it for tensors inside other pickles.

    Raises:
      CheckpointError: damaged, or something else than a storage.
    """
    body = _legacy_body(file)
    storage = body.content
    if type(storage) is not Storage:
        raise file.error(0, "holds no storage")
    region = _legacy_regions(file, body)[storage.key]
    return storage.dtype, file.read(region.offset, region.size, "a storage")


def _legacy_body(file: WeightFile) -> Pickle:
    """The object's own pickle, behind three others."""
    magic = load_pickle(file, 0, file.size)
    if type(magic.content) is not int or magic.content != LEGACY_MAGIC:
        raise file.error(0, "a pickle, but not one of PyTorch's")
    protocol = load_pickle(file, magic.end, file.size)
    if type(protocol.content) is not int or protocol.content != LEGACY_PROTOCOL:
        raise file.error(magic.end, "a PyTorch file of an unknown protocol")
    system = load_pickle(file, protocol.end, file.size)
    return load_pickle(file, system.end, file.size)


def find_state_dict(file: WeightFile, content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those of the dictionary under a usual key, or of the top level.

    Other values beside tensors (epochs, names) are left out; loading compares names and would miss a weight.

    Raises:
      CheckpointError: there is no dictionary of tensors; the message lists the keys that there are.
    """
    node = content
    for _ in range(_MAX_WRAPPING):
        if type(node) is not dict:
            break
        inner = next((node[key] for key in WRAPPERS if _holds_tensors(node.get(key))), None)
        if inner is None:
            break
        node = inner
    tensors = _tensors(node) if type(node) is dict else {}
    if not tensors:
        found = (
            ", ".join(repr(k)[:40] for k in list(content)[:10]) if type(content) is dict else "no dictionary"
        )
        raise file.error(0, f"holds no state dict (found: {found or 'an empty dictionary'})")
    return tensors


def _tensors(node: dict[Any, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in node.items() if type(value) is Tensor and type(key) is str}


def _holds_tensors(node: Any) -> bool:
    if type(node) is not dict:
        return False
    return any(type(value) is Tensor for value in node.values()) or any(
        type(node.get(key)) is dict and bool(_tensors(node[key])) for key in WRAPPERS
    )


def _storages(state: Mapping[str, Tensor]) -> Iterator[Storage]:
    """Each storage once."""
    seen: dict[str, Storage] = {}
    for tensor in state.values():
        seen.setdefault(tensor.storage.key, tensor.storage)
    yield from seen.values()


def _root(file: WeightFile, entries: Mapping[str, zips.Entry]) -> str:
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(roots) != 1:
        raise file.error(0, f"a zip archive with {len(roots)} entries data.pkl is no PyTorch checkpoint")
    return roots[0]


def _is_big_endian(file: WeightFile, entry: zips.Entry | None) -> bool:
    if entry is None:  # before PyTorch 2.1 nothing was said, and machines were little-endian
        return False
    order = zips.read_entry(file, entry, 16)
    if order not in (b"little", b"big"):
        raise file.error(entry.offset, f"unknown byte order {order!r}")
    return order == b"big"


def _legacy_regions(file: WeightFile, body: Pickle) -> dict[str, _Region]:
    """The storages' places: a pickled list of keys behind the body, then each one's count and numbers."""
    keys = load_pickle(file, body.end, file.size)
    if type(keys.content) is not list:
        raise file.error(body.end, "the list of storages is missing")
    regions = {}
    at = keys.end
    for key in keys.content:
        storage = body.storages.get(key) if type(key) is str else None
        if storage is None or storage.key in regions:
            raise file.error(body.end, "the list of storages names one twice, or one that no tensor uses")
        (count,) = file.unpack("<Q", at, "a storage's length")
        if count != storage.count:
            raise file.error(at, f"a storage has {count} numbers where {storage.count} were announced")
        size = count * storage.dtype.itemsize
        file.need(at + 8, size, f"storage {storage.key[:40]!r}")
        regions[storage.key] = _Region(at + 8, size)
        at += 8 + size
    return regions


def _arrays(
    file: WeightFile, state: Mapping[str, Tensor], regions: Mapping[str, _Region], big_endian: bool
) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in state.items():
        region = regions.get(tensor.storage.key)
        if region is None:
            raise file.error(tensor.storage.place, f"the numbers of {name[:80]!r} are not in the file")
        arrays[name] = _array(file, name, tensor, region, big_endian)
    check_total(file, arrays)
    return arrays


def _array(file: WeightFile, name: str, tensor: Tensor, region: _Region, big_endian: bool) -> np.ndarray:
    what = f"tensor {name[:80]!r}"
    storage, size = tensor.storage, tensor.dtype.itemsize
    if storage.count * storage.dtype.itemsize > region.size:
        reason = (
            f"{what} needs a storage of {storage.count * storage.dtype.itemsize} bytes, it has {region.size}"
        )
        raise file.error(region.offset, reason)
    checked_shape(file, storage.place, tensor.shape, tensor.dtype, what)
    check_expansion(file, storage.place, prod(tensor.shape), tensor.dtype, what)
    start = region.offset + storage.first * storage.dtype.itemsize
    end = start + storage.length * storage.dtype.itemsize
    return file.array(
        start + tensor.offset * size,
        tensor.shape,
        tensor.dtype,
        what,
        strides=tensor.strides,
        end=end,
        big_endian=big_endian,
    )
