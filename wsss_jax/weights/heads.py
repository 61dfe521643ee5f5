"""Head surgery: a checkpoint's head for another number of classes, as pure functions on variables."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.mapping import Variables


def take_fresh(variables: Mapping[str, Any], initial: Mapping[str, Any], heads: Collection[str]) -> Variables:
    """Variables with the named top-level modules taken from a fresh initialisation, and only those.

    Raises:
      CheckpointError: the initialisation lacks one of them.
    """
    result: Variables = {collection: dict(modules) for collection, modules in variables.items()}
    for head in heads:
        if not any(head in modules for modules in initial.values()):
            raise CheckpointError(f"the network has no head {head!r}")
        for collection, modules in initial.items():
            result.setdefault(collection, {}).pop(head, None)
            if head in modules:
                result[collection][head] = modules[head]
    return result


def add_background(variables: Mapping[str, Any]) -> Variables:
    """CPN's classifier from one without background: zeros, the undecided logit everywhere, before the others.

    Args:
      variables: with a head `fc8`, a kernel [1, 1, D, C].

    Returns:
      Variables with a kernel [1, 1, D, C + 1].

    Raises:
      CheckpointError: there is no such head.
    """
    modules = variables.get("params", {})
    if "kernel" not in modules.get("fc8", {}):
        raise CheckpointError(f"there is no head 'fc8'; modules: {', '.join(sorted(modules))}")
    kernel = np.asarray(modules["fc8"]["kernel"])
    if kernel.ndim != 4 or kernel.shape[:2] != (1, 1):
        raise CheckpointError(f"fc8 has a kernel of shape {kernel.shape}, 1 x 1 x inputs x classes is needed")
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 0), (1, 0)))
    return {**variables, "params": {**modules, "fc8": {**modules["fc8"], "kernel": kernel}}}
