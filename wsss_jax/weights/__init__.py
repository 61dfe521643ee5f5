"""Foreign checkpoint files: readers, name maps, head surgery and export; NumPy only."""

from wsss_jax.weights.files import sha256
from wsss_jax.weights.heads import add_background, take_fresh
from wsss_jax.weights.loading import load_foreign
from wsss_jax.weights.mapping import (
    check_against,
    detect_network,
    detect_variables,
    from_variables,
    to_variables,
    torch_names,
)
from wsss_jax.weights.networks import NETWORKS, trunk_blocks
from wsss_jax.weights.reading import FORMATS, file_format, read_tensors

__all__ = [
    "FORMATS",
    "NETWORKS",
    "add_background",
    "check_against",
    "detect_network",
    "detect_variables",
    "file_format",
    "from_variables",
    "load_foreign",
    "read_tensors",
    "sha256",
    "take_fresh",
    "to_variables",
    "torch_names",
    "trunk_blocks",
]
