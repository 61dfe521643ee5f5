"""The golden files, and the rule by which stand-ins for published weights are made.

The published weights are hundreds of megabytes; golden files hold inputs and outputs only, and every tensor
of a state dict is drawn from a generator seeded by its own name, so that the same (seed, name, shape) gives
the same numbers on every machine (NumPy freezes `RandomState`).
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

NARROW = 16  # the goldens in golden/narrow are of the authors' networks with 1/16 of the channels
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def names(network: str, divide: int = 1) -> dict[str, tuple[int, ...]]:
    """{name: shape} of a state dict, `divide` times narrower (kernels and the image's channels stay)."""
    shapes = json.loads((GOLDEN / "names" / f"{network}.json").read_text())
    return {name: tuple(_narrow(n, i, divide) for i, n in enumerate(shape)) for name, shape in shapes.items()}


# The classes' and the colours' channels stay.
_HEADS = {
    "infercam_seam": {"fc8.weight": (21, 256, 1, 1), "f9.weight": (12, 15, 1, 1)},
    "cpn": {"fc8.weight": (21, 256, 1, 1), "f9.weight": (12, 15, 1, 1), "f10.weight": (12, 15, 1, 1)},
    "sccam_k10": {"fc8_20.weight": (20, 256, 1, 1), "fc8_200.weight": (200, 256, 1, 1)},
    "resnet38_aff": {},
}


def names_at(network: str, divide: int) -> dict[str, tuple[int, ...]]:
    """The same at the width of the golden files: `divide` is 1 or `NARROW`."""
    return names(network, divide) | (_HEADS[network] if divide == NARROW else {})


def golden_at(name: str, divide: int) -> dict[str, np.ndarray]:
    """The arrays of golden/<name>.npz, those that depend on the width by networks `divide` times narrower."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        arrays = dict(file)
    if divide == NARROW:
        with np.load(GOLDEN / "narrow" / f"{name}.npz") as file:
            arrays |= dict(file)
    return arrays


def tensor(seed: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor that stands for `name` (`num_batches_tracked`: an int64 zero)."""
    rng = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean" or (len(shape) <= 1 and leaf == "bias"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if leaf == "running_var" or len(shape) <= 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def state_dict(seed: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A whole state dict for {name: shape}."""
    return {name: tensor(seed, name, tuple(shape)) for name, shape in shapes.items()}


def file_of(network: str, divide: int = 1) -> dict[str, np.ndarray]:
    """What a published file of a network holds: a tensor with several names has the values of its first."""
    path = GOLDEN / "aliases" / f"{network}.json"
    first = json.loads(path.read_text()) if path.exists() else {}
    shapes = names(network, divide)
    drawn = state_dict("dev", {name: shape for name, shape in shapes.items() if name not in first})
    return {name: drawn[first.get(name, name)] for name in shapes}


def _narrow(extent: int, axis: int, divide: int) -> int:
    return extent if axis > 1 or extent == 3 else max(1, extent // divide)
