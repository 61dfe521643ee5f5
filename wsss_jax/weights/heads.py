"""Head surgery: a checkpoint's head for another number of classes, as pure functions on variables."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.mapping import Variables


def drop_heads(variables: Mapping[str, Any], heads: Collection[str]) -> Variables:
    """Leaves out top-level modules (`fc8`), in every collection, for instance because the classes are others.

    Raises:
      CheckpointError: a head that is named is not there; the message lists what is.
    """
    for head in heads:
        if not any(head in modules for modules in variables.values()):
            there = sorted({name for modules in variables.values() for name in modules})
            raise CheckpointError(f"there is no head {head!r} to leave out; modules: {', '.join(there)}")
    return {
        collection: {name: value for name, value in modules.items() if name not in heads}
        for collection, modules in variables.items()
    }


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


def split_head(
    variables: Mapping[str, Any],
    k: int,
    *,
    source: str = "fc8",
    names: tuple[str, str] = ("fc8_20", "fc8_200"),
) -> Variables:
    """SC-CAM's two heads from a plain classifier: the classes, and k sub-categories for each.

    Sub-category s of class c is c * k + s and begins as a copy of class c, so that the merged map of a class
    (the maximum over its sub-categories) begins as the classifier's.

    Args:
      variables: with `source`, a kernel [1, 1, D, C].
      k: sub-categories of a class.
      source: the head that is replaced.
      names: the two new heads, [1, 1, D, C] and [1, 1, D, k * C].

    Raises:
      CheckpointError: there is no such head, or k is not positive.
    """
    if k < 1:
        raise CheckpointError(f"{k} sub-categories of a class; at least 1 is needed")
    kernel = _kernel(variables, source)
    result = drop_heads(variables, [source])
    result["params"][names[0]] = {"kernel": kernel.copy()}
    result["params"][names[1]] = {"kernel": np.repeat(kernel, k, axis=-1)}
    return result


def add_background(
    variables: Mapping[str, Any], *, head: str = "fc8", background: np.ndarray | None = None
) -> Variables:
    """CPN's classifier from one without background: a row for class 0 before the others.

    Args:
      variables: with `head`, a kernel [1, 1, D, C].
      head: its name.
      background: the new row, [D]; zeros if not given, which is the undecided logit 0 everywhere.

    Returns:
      Variables with a kernel [1, 1, D, C + 1].

    Raises:
      CheckpointError: there is no such head, or the row has another length.
    """
    kernel = _kernel(variables, head)
    row = (
        np.zeros(kernel.shape[-2], kernel.dtype)
        if background is None
        else np.asarray(background, kernel.dtype)
    )
    if row.shape != kernel.shape[-2:-1]:
        raise CheckpointError(f"the background row has shape {row.shape}, {head} needs {kernel.shape[-2:-1]}")
    return _with_kernel(variables, head, np.concatenate([row[None, None, :, None], kernel], axis=-1))


def remove_background(variables: Mapping[str, Any], *, head: str = "fc8") -> Variables:
    """The other way: [1, 1, D, C + 1] without class 0, to use SEAM's or CPN's as a plain classifier.

    Raises:
      CheckpointError: there is no such head, or it has only one class.
    """
    kernel = _kernel(variables, head)
    if kernel.shape[-1] < 2:
        raise CheckpointError(f"{head} has {kernel.shape[-1]} classes; a background and another are needed")
    return _with_kernel(variables, head, kernel[..., 1:].copy())


def _kernel(variables: Mapping[str, Any], head: str) -> np.ndarray:
    modules = variables.get("params", {})
    if head not in modules or "kernel" not in modules[head]:
        raise CheckpointError(f"there is no head {head!r}; modules: {', '.join(sorted(modules))}")
    kernel = np.asarray(modules[head]["kernel"])
    if kernel.ndim != 4 or kernel.shape[:2] != (1, 1):
        raise CheckpointError(
            f"{head} has a kernel of shape {kernel.shape}, 1 x 1 x inputs x classes is needed"
        )
    return kernel


def _with_kernel(variables: Mapping[str, Any], head: str, kernel: np.ndarray) -> Variables:
    result: Variables = {collection: dict(modules) for collection, modules in variables.items()}
    result["params"][head] = {**result["params"][head], "kernel": kernel}
    return result
