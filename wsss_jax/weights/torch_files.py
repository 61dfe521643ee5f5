"""Readers of PyTorch checkpoints (`.pth`, `.pt`), NumPy only: the zip container and the format before 1.6.

The zip container holds `data.pkl`, `byteorder` and the raw numbers of each storage in `data/<key>`. The older
format is a stream: four pickles (magic number, protocol, system, the object), a pickled list of storage keys,
then for each key a u64 count and the numbers, little-endian on every machine.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsss_jax.weights.files import WeightFile, check_total, checked_shape
from wsss_jax.weights.torch_pickle import Pickle, Storage, Tensor, load_pickle
from wsss_jax.weights.zips import Archive, is_mapped

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


_Region = tuple[int, int]  # offset and number of bytes of a storage


def read_torch_zip(archive: Archive, verify: bool = False) -> dict[str, np.ndarray]:
    """Reads the state dict of a zip container; with `verify`, the checksums of its numbers too.

    Raises:
      CheckpointError: see `read_tensors`.
    """
    file = archive.file
    root = _root(archive)
    start, size = _region(archive, root + "data.pkl", verify=True)
    state = find_state_dict(file, load_pickle(file, start, start + size).content)
    keys = {tensor.storage.key for tensor in state.values()}
    regions = {key: _region(archive, f"{root}data/{key}", verify) for key in sorted(keys)}
    return _arrays(file, state, regions, _is_big_endian(archive, root + "byteorder"))


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
    return storage.dtype, file.read(*_legacy_regions(file, body)[storage.key], "a storage")


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


def _root(archive: Archive) -> str:
    names = [name for name in archive.entries if f"/{name}".endswith("/data.pkl")]
    if len(names) != 1:
        reason = f"a zip archive with {len(names)} entries data.pkl is no PyTorch checkpoint"
        raise archive.file.error(0, reason)
    return names[0].removesuffix("data.pkl")


def _region(archive: Archive, name: str, verify: bool) -> _Region:
    """The place of an entry that PyTorch stores as it is."""
    entry = archive.entries.get(name)
    if entry is None or not is_mapped(entry):
        reason = f"the archive has no usable entry {name[:80]} (it must be there and not compressed)"
        raise archive.file.error(0, reason)
    if verify:
        archive.verify(entry)
    return archive.place(entry), entry.file_size


def _is_big_endian(archive: Archive, name: str) -> bool:
    if name not in archive.entries:  # before PyTorch 2.1 nothing was said, and machines were little-endian
        return False
    order = archive.read(archive.entries[name])[:16]
    if order not in (b"little", b"big"):
        raise archive.file.error(archive.entries[name].header_offset, f"unknown byte order {order!r}")
    return order == b"big"


def _legacy_regions(file: WeightFile, body: Pickle) -> dict[str, _Region]:
    """The storages' places: a pickled list of keys behind the body, then each one's count and numbers."""
    keys = load_pickle(file, body.end, file.size)
    if type(keys.content) is not list:
        raise file.error(body.end, "the list of storages is missing")
    regions: dict[str, _Region] = {}
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
        regions[storage.key] = at + 8, size
        at += 8 + size
    return regions


def _arrays(
    file: WeightFile, state: Mapping[str, Tensor], regions: Mapping[str, _Region], big_endian: bool
) -> dict[str, np.ndarray]:
    check_total(file, sum(checked_shape(file, 0, t.shape, t.dtype, repr(n)) for n, t in state.items()))
    arrays = {}
    for name, tensor in state.items():
        what, storage = f"tensor {name[:80]!r}", tensor.storage
        if storage.key not in regions:
            raise file.error(0, f"the numbers of {what} are not in the file")
        place, size = regions[storage.key]
        width = storage.dtype.itemsize
        if storage.count * width > size:
            raise file.error(place, f"{what} needs a storage of {storage.count * width} bytes, it has {size}")
        start = place + storage.first * width
        arrays[name] = file.array(
            start + tensor.offset * tensor.dtype.itemsize,
            tensor.shape,
            tensor.dtype,
            what,
            strides=tensor.strides,
            end=start + storage.length * width,
            big_endian=big_endian,
        )
    return arrays
