"""Reader and writer of safetensors files through the library of that name."""

import json
import os
from collections.abc import Mapping

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wsss_jax.weights.files import BFLOAT16, WeightFile, owned

_MAX_HEADER = 1 << 24
_TYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": BFLOAT16,
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_safetensors(file: WeightFile, local: str) -> dict[str, np.ndarray]:
    """Reads every tensor. The library checks the header; the numbers are mapped, not copied.

    Args:
      file: the mapped file.
      local: its path.

    Raises:
      CheckpointError: the library refuses the file, or an element type has no NumPy counterpart.
    """
    (length,) = file.unpack("<Q", 0, "the header's length")
    if length > _MAX_HEADER:
        raise file.error(0, f"claims a header of {length} bytes, at most {_MAX_HEADER} are read")
    try:
        with safe_open(local, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise file.error(0, f"damaged safetensors file: {error}") from error
    header = json.loads(file.read(8, length, "the header"))
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])):
        if entry["dtype"] not in _TYPES:
            raise file.error(8, f"tensor {name[:80]!r} has the unsupported type {entry['dtype']}")
        start = 8 + length + entry["data_offsets"][0]
        arrays[name] = file.array(
            start, tuple(entry["shape"]), _TYPES[entry["dtype"]], f"tensor {name[:80]!r}"
        )
    return arrays


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors in C order."""
    ready = {
        name: tensor if tensor.flags.c_contiguous and tensor.flags.aligned else owned(tensor)
        for name, tensor in tensors.items()
    }
    save_file(ready, path, dict(metadata or {}))
