"""Reads a weight file of any supported format, told apart by its content."""

import os
import re

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights import mxnet, zips
from wsss_jax.weights.files import WeightFile, local_copy, map_file
from wsss_jax.weights.mxnet import read_mxnet
from wsss_jax.weights.npz_files import read_npz
from wsss_jax.weights.safetensors_files import read_safetensors
from wsss_jax.weights.torch_files import read_torch_legacy, read_torch_zip

_TEXT = re.compile(rb"[\x20-\x7e\s]*")
FORMATS = {
    "mxnet": "MXNet parameters",
    "torch-zip": "PyTorch checkpoint",
    "torch-legacy": "PyTorch checkpoint, format before 1.6",
    "safetensors": "safetensors",
    "npz": "NumPy archive",
}


def read_tensors(path: str | os.PathLike[str], *, verify: bool = False) -> dict[str, np.ndarray]:
    """Reads every tensor of a weight file under the name that it has there.

    Supported are MXNet `.params`, PyTorch `.pth` (both formats), safetensors and `.npz`; the extension does
    not matter. Of a PyTorch checkpoint with an optimiser and other things beside it, the state dict is
    returned.

    Args:
      path: a local file, or a remote one (`gs://...`), which is copied first.
      verify: compare the checksums of the numbers where the format has them; costs a pass over the file.

    Returns:
      Arrays by name, in the file's order, in native byte order: read-only views of the mapped file wherever
      possible. They stay valid as long as they are referenced; the file must not be changed in place
      meanwhile.

    Raises:
      CheckpointError: the file cannot be read, with file, offset and reason; nothing of it was executed.
    """
    name = os.fspath(path)
    with local_copy(name) as local:
        file = map_file(local, name)
        kind = _format(file, local)
        if kind == "mxnet":
            return read_mxnet(file)
        if kind == "torch-legacy":
            return read_torch_legacy(file)
        if kind == "safetensors":
            return read_safetensors(file, local)
        with zips.open_archive(file, local) as archive:
            return read_npz(archive, verify) if kind == "npz" else read_torch_zip(archive, verify)


def file_format(path: str | os.PathLike[str]) -> str:
    """A key of `FORMATS`.

    Raises:
      CheckpointError: none of them.
    """
    name = os.fspath(path)
    with local_copy(name) as local:
        return _format(map_file(local, name), local)


def _format(file: WeightFile, local: str) -> str:
    start = file.data[:9]
    # First, since the header's length, with which safetensors begins, may look like any other magic number.
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= file.size - 8:
        return "safetensors"
    if start[:8] == mxnet.MAGIC.to_bytes(8, "little"):
        return "mxnet"
    if start[:4] == zips.MAGIC:
        with zips.open_archive(file, local) as archive:
            names = archive.entries
        return "npz" if names and all(name.endswith(".npy") for name in names) else "torch-zip"
    if start[:1] == b"\x80":
        return "torch-legacy"
    raise _unknown(file)


def _unknown(file: WeightFile) -> CheckpointError:
    start = file.data[:512]
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        return file.error(
            0, "is a gzip or tar archive; unpack it first (PyTorch's tar format of 2016 is not read)"
        )
    if _TEXT.fullmatch(start):
        return file.error(0, f"is a text, not a weight file (a failed download?): {start[:40]!r}")
    return file.error(0, f"is of no known weight format; it starts with {start[:8].hex(' ')}")
