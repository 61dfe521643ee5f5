"""Writes PyTorch checkpoints, zip container and format before 1.6, without PyTorch, opcode by opcode."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(key: str, dtype: str, count: int, end: bytes = b"") -> bytes:
    """A persistent id; `end` is empty in the zip format, None (opcode N) or a view in the older one."""
    kind = f"ctorch\n{STORAGES[dtype]}\n".encode()
    return b"(" + text("storage") + kind + text(key) + text("cpu") + integer(count) + end + b"tQ"


def tensor(storage_id: bytes, offset: int, shape, strides) -> bytes:
    call = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return (
        call
        + storage_id
        + integer(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89"
        + ORDERED_DICT
        + b"tR"
    )


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickle(content: bytes) -> bytes:
    return b"\x80\x02" + content + b"."


def contiguous(array: np.ndarray, key: str, end: bytes = b"") -> bytes:
    strides = np.array(array.strides, int) // array.itemsize if array.ndim else ()
    return tensor(storage(key, str(array.dtype), array.size, end), 0, array.shape, [int(s) for s in strides])


def write_zip_parts(
    path: Path, content: bytes, storages: Mapping[str, bytes], byteorder: bytes | None = b"little"
):
    """A zip container of a pickle's content and raw storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle(content))
        if byteorder is not None:
            archive.writestr("archive/byteorder", byteorder)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", b"3\n")
    return path


def write_zip(
    path: Path, tensors: Mapping[str, np.ndarray], *, wrap: str | None = None, big_endian: bool = False
):
    """A state dict as `torch.save` writes it since 1.6, perhaps inside {wrap: ..., "epoch": 3}."""
    arrays = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
    content = mapping({name: contiguous(value, str(i)) for i, (name, value) in enumerate(arrays.items())})
    if wrap is not None:
        content = mapping({wrap: content, "epoch": integer(3)})
    raw = {str(i): _raw(value, big_endian) for i, value in enumerate(arrays.values())}
    return write_zip_parts(path, content, raw, b"big" if big_endian else b"little")


def write_legacy_parts(path: Path, content: bytes, storages: Mapping[str, tuple[int, bytes]]):
    """The older stream of a pickle's content and (number of elements, raw bytes) of each storage."""
    head = pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") + pickle(b"M\xe9\x03")
    system = pickle(mapping({"protocol_version": b"M\xe9\x03", "little_endian": b"\x88"}))
    keys = pickle(b"](" + b"".join(map(text, storages)) + b"e")
    data = b"".join(struct.pack("<Q", count) + raw for count, raw in storages.values())
    path.write_bytes(head + system + pickle(content) + keys + data)
    return path


def write_legacy(path: Path, tensors: Mapping[str, np.ndarray]):
    """A state dict as `torch.save` wrote it before 1.6."""
    arrays = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
    content = mapping(
        {name: contiguous(value, str(i), b"N") for i, (name, value) in enumerate(arrays.items())}
    )
    raw = {str(i): (value.size, value.tobytes()) for i, value in enumerate(arrays.values())}
    return write_legacy_parts(path, content, raw)


def _raw(array: np.ndarray, big_endian: bool) -> bytes:
    if not big_endian or array.itemsize == 1:
        return array.tobytes()
    return array.view(f"u{array.itemsize}").byteswap().tobytes()
