"""Between state dicts and Flax variables: strict, both ways, with every difference in one message.

Variables are nested dictionaries {"params": {...}, "batch_stats": {...}} of arrays; a state dict is a flat
dictionary with PyTorch's names and layouts. Nothing here copies numbers on the way in: arrays come out as
transposed views.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.networks import (
    MXNET_DROPPED,
    NETWORKS,
    Blocks,
    Entry,
    Network,
    mxnet_names,
    trunk_blocks,
)

Variables = dict[str, Any]
_COLLECTIONS = ("params", "batch_stats")
_LISTED = 12  # names that `detect_network` shows of each kind; strict loading shows all


def to_variables(
    tensors: Mapping[str, np.ndarray],
    network: str,
    *,
    blocks: Blocks | None = None,
    allow_missing: Collection[str] = (),
    ignore: Collection[str] = (),
    source: str = "tensors",
) -> Variables:
    """Turns the tensors of a file into the variables of a network.

    Args:
      tensors: by name, as `read_tensors` gives them; MXNet's names, `arg:`/`aux:` and `module.` are
        understood.
      network: a key of `NETWORKS`.
      blocks: of its trunk, where they are not the published ones.
      allow_missing: top-level modules (`fc8`) that the file need not have.
      ignore: modules (`fc8`) or tensors that are left out if the file has them.
      source: what messages call the tensors.

    Returns:
      {"params": ..., "batch_stats": ...} with views of the given arrays in Flax's layout and the file's type.
      `num_batches_tracked` has no counterpart and is dropped; the file need not have it.

    Raises:
      CheckpointError: names do not match (all missing and unexpected ones are listed), a tensor has the wrong
        number of axes, or the network is unknown.
    """
    layout = find_network(network, blocks)
    entries = {entry.torch: entry for entry in layout.entries()}
    found = _as_in(layout, entries, torch_names(tensors, source))
    found = {name: value for name, value in found.items() if not _is_under(name, ignore)}
    missing, unexpected = _differences(found, entries)
    missing = [
        name
        for name in missing
        if not (entries[name].head in allow_missing or _is_under(name, allow_missing))
    ]
    if missing or unexpected:
        raise CheckpointError(f"{source}: does not fit {network}: {_both_lists(missing, unexpected)}")
    return _build(found, entries, source)


def from_variables(
    variables: Mapping[str, Any],
    network: str,
    *,
    blocks: Blocks | None = None,
    source: str = "variables",
) -> dict[str, np.ndarray]:
    """Turns variables into a state dict that the references load strictly.

    Args:
      variables: {"params": ..., "batch_stats": ...}, exactly those of the network; other collections are not
        allowed.
      network: a key of `NETWORKS`; `resnet38_mxnet_a1` gives PyTorch's names too.
      blocks: of its trunk, where they are not the published ones.
      source: what messages call the variables.

    Returns:
      Arrays by PyTorch name, in PyTorch's order and layout (views where possible); `num_batches_tracked` is
      zero. Names of one tensor have the same array.

    Raises:
      CheckpointError: variables are missing or unexpected (all are listed), or the network is unknown.
    """
    leaves = dict(flatten(variables))
    entries = list(find_network(network, blocks).entries())
    wanted = {entry.path: entry for entry in entries if entry.path}
    missing = ["/".join(path) for path in wanted.keys() - leaves.keys()]
    unexpected = ["/".join(path) for path in leaves.keys() - wanted.keys()]
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: are not those of {network}: {_both_lists(sorted(missing), sorted(unexpected))}"
        )
    arrays = {path: _to_torch(entry, leaves[path], source) for path, entry in wanted.items()}
    return {entry.torch: arrays[entry.path] if entry.path else np.zeros((), np.int64) for entry in entries}


def detect_network(tensors: Mapping[str, np.ndarray], *, source: str = "tensors") -> str:
    """The network that has exactly these tensors, whatever blocks its trunk has.

    Of several with equal names it is the first in `NETWORKS`; `networks.trunk_blocks` tells the blocks.

    Raises:
      CheckpointError: there is none; the message tells the nearest and how it differs.
    """
    if is_mxnet(tensors):
        return "resnet38_mxnet_a1"
    return _detect(torch_names(tensors, source), lambda entry: entry.torch, source)


def detect_variables(variables: Mapping[str, Any], *, source: str = "variables") -> str:
    """The same for variables, whose names are those of Flax."""
    found = {"/".join(path): leaf for path, leaf in flatten(variables)}
    return _detect(found, lambda entry: "/".join(entry.path or ()), source)


def _detect(found: Mapping[str, Any], name_of: Callable[[Entry], str], source: str) -> str:
    differences = {}
    for name in NETWORKS:
        network = find_network(name, trunk_blocks(found))
        entries = {name_of(entry): entry for entry in network.entries()}
        differences[name] = _differences(_as_in(network, entries, found), entries)
        if not any(differences[name]):
            return name
    nearest = min(differences, key=lambda name: sum(map(len, differences[name])))
    missing, unexpected = map(sorted, differences[nearest])
    lists = _both_lists(missing, unexpected, limit=_LISTED)
    raise CheckpointError(f"{source}: no known network has these tensors; the nearest is {nearest}: {lists}")


def _as_in(network: Network, entries: Collection[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, the trunk's names with their prefix, without what the authors' program derives."""
    if network.prefix and not any(name.startswith(network.prefix) for name in found):
        prefixed = {name: network.prefix + name for name in found}
        found = {new if new in entries else old: found[old] for old, new in prefixed.items()}
    derived = network.derived
    return {name: leaf for name, leaf in found.items() if not (derived and name.startswith(derived))}


def _differences(found: Collection[str], entries: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
    """First names of what is found by none of its names, and what was found and has no entry."""
    places = {entries[name].path for name in found if name in entries}
    missing = {entry.path: name for name, entry in [*entries.items()][::-1] if entry.path not in places}
    missing.pop(None, None)  # Flax has no counterpart, and a file need not have it either
    return [*missing.values()][::-1], [name for name in found if name not in entries]


def check_against(
    variables: Mapping[str, Any], expected: Mapping[str, Any], *, source: str = "variables"
) -> None:
    """Compares names and shapes with those of a network.

    Args:
      variables: nested dictionaries of arrays.
      expected: the same of arrays, shapes (tuples) or `jax.eval_shape`'s structures.
      source: what messages call the variables.

    Raises:
      CheckpointError: lists every variable that is missing, unexpected or of another shape.
    """
    found = {"/".join(path): tuple(np.shape(leaf)) for path, leaf in flatten(variables)}
    wanted = {"/".join(path): _shape(leaf) for path, leaf in flatten(expected)}
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    shapes = [
        f"{name} is {found[name]} instead of {wanted[name]}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"{source}: does not fit the network: {_both_lists(missing, unexpected, shapes)}"
        )


def torch_names(tensors: Mapping[str, np.ndarray], source: str = "tensors") -> dict[str, np.ndarray]:
    """The tensors under PyTorch's names: `module.` taken off if all have it, MXNet's names translated.

    ImageNet's classifier of the MXNet file (`linear1000`) is dropped.

    Raises:
      CheckpointError: two names become one.
    """
    if is_mxnet(tensors):
        return _from_mxnet(tensors, source)
    named = dict(tensors)
    while named and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items()}
    return named


def is_mxnet(tensors: Iterable[str]) -> bool:
    """Whether names are MXNet's."""
    return any(_bare(name).endswith(("_gamma", "_moving_mean", "_weight")) for name in tensors)


def flatten(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, leaf) of nested dictionaries."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def insert(tree: Variables, path: tuple[str, ...], value: Any) -> None:
    """Sets a leaf of nested dictionaries, making those that lack."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def find_network(name: str, blocks: Blocks | None = None) -> Network:
    """The network of that name, with these blocks in its trunk or the published ones.

    Raises:
      CheckpointError: there is none; the message lists them.
    """
    if name not in NETWORKS:
        raise CheckpointError(f"unknown network {name!r}; known are {', '.join(sorted(NETWORKS))}")
    return dataclasses.replace(NETWORKS[name], blocks=blocks) if blocks else NETWORKS[name]


def _from_mxnet(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    names = {_bare(theirs): ours for theirs, ours in mxnet_names().items()}
    result: dict[str, np.ndarray] = {}
    for theirs, value in tensors.items():
        bare = _bare(theirs)
        ours = names.get(bare, bare.replace("linear1000_", "linear1000."))
        if ours in result:
            raise CheckpointError(f"{source}: two arrays are called {bare}")
        if ours not in MXNET_DROPPED:
            result[ours] = value
    return result


def _bare(name: str) -> str:
    return name.removeprefix("arg:").removeprefix("aux:")


def _build(found: Mapping[str, np.ndarray], entries: Mapping[str, Entry], source: str) -> Variables:
    variables: Variables = {collection: {} for collection in _COLLECTIONS}
    for name, entry in entries.items():
        if name not in found or entry.path is None:
            continue
        tensor = found[name]
        if tensor.ndim != entry.rank:
            raise CheckpointError(f"{source}: {name} has shape {tensor.shape}, {entry.rank} axes are needed")
        insert(variables, entry.path, tensor.transpose(entry.axes) if entry.axes else tensor)
    return variables


def _to_torch(entry: Entry, leaf: Any, source: str) -> np.ndarray:
    array = np.asarray(leaf)
    if array.ndim != entry.rank:
        name = "/".join(entry.path or ())
        raise CheckpointError(f"{source}: {name} has shape {array.shape}, {entry.rank} axes are needed")
    return array.transpose(np.argsort(entry.axes)) if entry.axes else array


def _is_under(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf) if isinstance(leaf, tuple | list) else tuple(leaf.shape)


def _both_lists(
    missing: list[str], unexpected: list[str], shapes: list[str] | None = None, limit: int | None = None
) -> str:
    parts = []
    for names, what in ((missing, "missing"), (unexpected, "unexpected"), (shapes or [], "of another shape")):
        if names:
            more = f", and {len(names) - limit} more" if limit and len(names) > limit else ""
            parts.append(f"{len(names)} {what}: {', '.join(names[:limit])}{more}")
    return "; ".join(parts)
