"""The SHA-256 under which a checkpoint's numbers are saved and verified."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from wsss_jax.weights.files import pieces


def leaf_digest(name: str, array: np.ndarray, write: Callable[[memoryview], Any] | None = None) -> bytes:
    """SHA-256 of an array with its name, type and shape.

    Args:
      name: its place in a tree, as `jax.tree_util.keystr` writes it, such as `['params']['fc8']['kernel']`.
      array: any type and shape; hashing it releases the interpreter lock.
      write: is given the array's bytes, C-ordered, piece by piece on the way.
    """
    sha = hashlib.sha256(f"{name} {array.dtype} {array.shape}\0".encode())
    for piece in pieces(np.ascontiguousarray(array)):
        sha.update(piece)
        if write is not None:
            write(piece)
    return sha.digest()


def tree_digest(leaves: Iterable[bytes]) -> str:
    """Hexadecimal SHA-256 of the leaves' digests, in the order of their names."""
    return hashlib.sha256(b"".join(leaves)).hexdigest()
