"""Writes a tree of arrays as the files that Orbax 0.12 writes without its database, and without Orbax.

Each array is a folder of the Zarr format, version 2, with all numbers in one uncompressed chunk; `_METADATA`
lists the tree. Copying into C order, hashing and writing an array go together, so that no more than a few
arrays are in memory at a time and all cores are busy. Orbax's own writer wants the whole tree in memory, and
importing it and JAX takes longer than the conversion; compression would save 8 % of the size.
"""

import json
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss_jax.weights.digests import leaf_digest, tree_digest
from wsss_jax.weights.files import copy_into, is_floating
from wsss_jax.weights.mapping import flatten

_THREADS = 4
_DICTIONARY_KEY = 2  # Orbax's number for a level of the tree that is a dictionary


def write_tree(folder: Path, tree: Mapping[str, Any], dtype: Any) -> str:
    """Writes nested dictionaries of arrays for `training.checkpoints.restore`.

    Args:
      folder: is created.
      tree: its arrays may be views of mapped files, in any order of axes.
      dtype: of floating-point arrays, such as np.float32; others keep theirs.

    Returns:
      Their digest, as `training.checkpoints.digest` computes it.

    Raises:
      OSError: the folder cannot be written.
    """
    leaves = [_Leaf(folder, path, view, np.dtype(dtype)) for path, view in flatten(tree)]
    leaves.sort(key=lambda leaf: -leaf.view.nbytes)  # so that no scratch memory has to grow
    folder.mkdir(parents=True)
    scratch, digests = _Scratch(), {}
    with ThreadPoolExecutor(_THREADS) as pool:  # copying, hashing and writing release the interpreter lock
        for leaf in leaves:  # folders are made here: threads would wait for each other in the file system
            leaf.place.mkdir()
            (leaf.place / ".zarray").write_text(json.dumps(_zarray(leaf.view.shape, leaf.dtype)))
            digests[leaf.path] = pool.submit(_write, scratch, leaf)
    paths = sorted(digests)
    (folder / "_METADATA").write_text(json.dumps(_metadata(paths)))
    return tree_digest(digests[path].result() for path in paths)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """An array on its way into the file."""

    folder: Path
    path: tuple[str, ...]
    view: np.ndarray
    floating: np.dtype

    @property
    def dtype(self) -> np.dtype:
        return self.floating if is_floating(self.view) else self.view.dtype

    @property
    def place(self) -> Path:
        return self.folder / ".".join(self.path)


class _Scratch(threading.local):
    """Memory of each thread for one array after the other, since fresh memory takes longer than copying."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A C-ordered array of any content, valid until the thread asks for the next."""
        size = math.prod(shape) * dtype.itemsize
        if size > self._bytes.size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype).reshape(shape)


def _write(scratch: _Scratch, leaf: _Leaf) -> bytes:
    """Writes the numbers of an array and returns their digest."""
    array = scratch.array(leaf.view.shape, leaf.dtype)
    copy_into(array, leaf.view)
    name = "".join(f"[{key!r}]" for key in leaf.path)
    if not array.size:
        return leaf_digest(name, array)
    with (leaf.place / ".".join("0" * max(1, array.ndim))).open("wb") as chunk:
        return leaf_digest(name, array, chunk.write)


def _zarray(shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": [max(1, extent) for extent in shape],
        "dtype": dtype.str,
        "order": "C",
        "compressor": None,
        "filters": None,
        "fill_value": None,
        "dimension_separator": ".",
    }


def _metadata(paths: list[tuple[str, ...]]) -> dict[str, Any]:
    value = {"value_type": "np.ndarray", "skip_deserialize": False}
    return {
        "tree_metadata": {
            str(path): {
                "key_metadata": [{"key": key, "key_type": _DICTIONARY_KEY} for key in path],
                "value_metadata": value,
            }
            for path in paths
        },
        "use_ocdbt": False,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
