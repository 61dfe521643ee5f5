"""From a foreign weight file to the variables of a network, in one call (what `init_from` uses)."""

import os
from collections.abc import Collection
from typing import Any

import numpy as np

from wsss_jax.weights.files import is_floating, owned
from wsss_jax.weights.mapping import Variables, flatten, insert, to_variables
from wsss_jax.weights.networks import Blocks
from wsss_jax.weights.reading import read_tensors


def load_foreign(
    path: str | os.PathLike[str],
    network: str,
    *,
    blocks: Blocks | None = None,
    fresh: Collection[str] = (),
    allow_missing: Collection[str] = (),
    ignore: Collection[str] = (),
    dtype: Any = np.float32,
) -> Variables:
    """Reads `.params`, `.pth`, `.safetensors` or `.npz` as the variables of a network, with NumPy only.

    Args:
      path: a local file or `gs://...`.
      network: a key of `networks.NETWORKS`; the file may be another one's as far as the arguments below
        allow.
      blocks: of its trunk, where they are not the published ones.
      fresh: heads (`fc8`) that are left out whether the file has them or not; the caller initialises them.
      allow_missing: heads that are used if the file has them.
      ignore: modules of the file that the network lacks and that are left out (`fc8` on the way to SC-CAM's
        heads).
      dtype: floating-point tensors become this type; None keeps the file's.

    Returns:
      {"params": ..., "batch_stats": ...} of C-ordered arrays that own their numbers. Peak memory is one copy
      of them.

    Raises:
      CheckpointError: the file cannot be read, or what it has and the network lacks, or the reverse, is not
        named above; everything is listed.
    """
    tensors = read_tensors(path)
    source = os.fspath(path)
    missing = [*fresh, *allow_missing]
    views = to_variables(
        tensors, network, blocks=blocks, allow_missing=missing, ignore=[*fresh, *ignore], source=source
    )
    return own(views, dtype)


def own(variables: Variables, dtype: Any = None) -> Variables:
    """Copies every array, C-ordered, floating-point ones as `dtype`; gives mapped pages back as it goes."""
    result: Variables = {collection: {} for collection in variables}
    for path, view in flatten(variables):
        insert(result, path, owned(view, dtype if is_floating(view) else None))
    return result
