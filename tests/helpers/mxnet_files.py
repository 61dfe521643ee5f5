"""The published MXNet file, 1/16 as wide, byte for byte as MXNet 1.9.1 wrote it; at 1.7 MB it is not kept."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np

from tests.helpers.golden import GOLDEN, tensor

_SHA256 = "5e6ecbcaf65853bfead5db93549e83da9fe90351a75c2c2d5b291a381bcacf58"  # of MXNet's own


def published_file(path: Path) -> dict[str, np.ndarray]:
    """Writes the file and returns its tensors by PyTorch's names, the linear layer's among them."""
    published = json.loads((GOLDEN / "names" / "resnet38_mxnet_a1.json").read_text())
    tensors, raw = {}, struct.pack("<3Q", 0x112, 0, len(published))
    for theirs, entry in published.items():
        shape = tuple(n if n == 3 or i > 1 else n // 16 for i, n in enumerate(entry["shape"]))
        name = entry["torch"] or theirs.removeprefix("arg:").replace("_", ".")
        tensors[name] = tensor("dev", name, shape)
        raw += struct.pack(f"<Iii{len(shape)}q", 0xF993FAC9, 0, len(shape), *shape)
        raw += struct.pack("<iii", 1, 0, 0) + tensors[name].tobytes()
    raw += struct.pack("<Q", len(published))
    raw += b"".join(struct.pack("<Q", len(name)) + name.encode() for name in published)
    assert hashlib.sha256(raw).hexdigest() == _SHA256
    path.write_bytes(raw)
    return tensors
