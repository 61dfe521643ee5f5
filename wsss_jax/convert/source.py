"""What is to be converted: a foreign file or one of our checkpoints, and what there is to say about it."""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from etils import epath

from wsss_jax import weights
from wsss_jax.errors import CheckpointError
from wsss_jax.weights.files import is_floating, release_pages
from wsss_jax.weights.mapping import Variables, find_network, flatten
from wsss_jax.weights.networks import Blocks


@dataclass(frozen=True)
class Source:
    """Tensors that were read, not yet fitted to a network.

    Attributes:
      path: as the user gave it.
      kind: the format, for people.
      tensors: by the names that the format has; of a checkpoint, by PyTorch's names.
      network: given by the user or found; None if no network has these tensors.
      problem: why the network is None.
      hashing: what becomes `sha256`; hashing goes on while the tensors are used.
      fresh: heads that are left out.
    """

    path: str
    kind: str
    tensors: Mapping[str, np.ndarray]
    network: str | None
    problem: str
    hashing: Future[str]
    fresh: Collection[str] = ()

    @property
    def blocks(self) -> Blocks:
        """Of the network's trunk, told by the names."""
        return weights.trunk_blocks(weights.torch_names(self.tensors, self.path))

    @property
    def sha256(self) -> str:
        """Of the file; of a checkpoint, the digest that training saved with it. Waits until it is known."""
        return self.hashing.result()

    def fit(self) -> Variables:
        """The variables of the network; CheckpointError if names differ, or if no network is known."""
        if self.network is None:
            raise CheckpointError(self.problem)
        return weights.to_variables(
            self.tensors,
            self.network,
            blocks=self.blocks,
            allow_missing=self.fresh,
            ignore=self.fresh,
            source=self.path,
        )


def read_source(
    path: str, network: str | None, *, fresh: Collection[str] = (), verify: bool = False
) -> Source:
    """Reads a foreign file, or a checkpoint that training or this command wrote.

    Args:
      path: local or `gs://`; of a checkpoint, one step of it, or a folder of which `step_folder` chooses one.
      network: a key of `NETWORKS`, or None to find it.
      fresh: heads that are left out, whether there or not.
      verify: compare the checksums inside a foreign file; a checkpoint's digest is always compared.

    Raises:
      CheckpointError: unreadable or damaged, or an unknown network was asked for.
    """
    if network is not None:
        find_network(network)
    if epath.Path(path).is_dir():
        return _read_checkpoint(path, network, fresh)
    hashing = _background(functools.partial(weights.sha256, path))
    kind = weights.FORMATS[weights.file_format(path)]
    tensors = weights.read_tensors(path, verify=verify)
    problem = ""
    if network is None:
        try:
            network = weights.detect_network(tensors, source=path)
        except CheckpointError as error:
            problem = str(error)
    return Source(path, kind, tensors, network, problem, hashing, fresh)


def _read_checkpoint(path: str, network: str | None, fresh: Collection[str]) -> Source:
    from wsss_jax.stages.networks import step_folder  # JAX and Orbax; foreign files do without
    from wsss_jax.training.checkpoints import restore

    restored = restore(step_folder(path))
    network = network or weights.detect_variables(restored.variables, source=path)
    blocks = weights.trunk_blocks("/".join(name) for name, _ in flatten(restored.variables))
    tensors = weights.from_variables(restored.variables, network, blocks=blocks, source=path)
    saved = _background(lambda: restored.meta["digest"]["variables"])
    kind = f"checkpoint of wsss_jax, step {restored.step}"
    return Source(path, kind, tensors, network, "", saved, fresh)


def _background(work: Callable[[], str]) -> Future[str]:
    """Runs in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    result = pool.submit(work)
    pool.shutdown(wait=False)  # no more work will come; the thread ends by itself
    return result


def describe(source: Source) -> str:
    """A few lines: format, counts, types, hash, network."""
    numbers = sum(tensor.size for tensor in source.tensors.values())
    types = Counter(str(tensor.dtype) for tensor in source.tensors.values())
    return "\n".join(
        (
            f"source   {source.path}: {source.kind}, {len(source.tensors)} tensors, {numbers:,} numbers",
            f"types    {', '.join(f'{count} {name}' for name, count in types.items())}",
            f"sha256   {source.sha256}",
            f"network  {_network(source)}",
        )
    )


def _network(source: Source) -> str:
    if source.network is None:
        return f"unknown: {source.problem}"
    published = find_network(source.network).blocks
    if source.blocks == published:
        return source.network
    return f"{source.network}, blocks {source.blocks} instead of the published {published}"


def list_tensors(source: Source) -> str:
    """One line for each tensor: name, shape, type."""
    width = max(map(len, source.tensors), default=0)
    return "\n".join(
        f"{name:{width}}  {' x '.join(map(str, tensor.shape)) or 'scalar'}  {tensor.dtype}"
        for name, tensor in source.tensors.items()
    )


def check_finite(source: Source) -> None:
    """CheckpointError that lists every tensor with a NaN or an infinity."""
    broken = []
    for name, tensor in source.tensors.items():
        if is_floating(tensor) and not np.isfinite(tensor).all():
            broken.append(name)
        release_pages(tensor)
    if broken:
        raise CheckpointError(f"{source.path}: {len(broken)} with NaN or infinity: {', '.join(broken)}")
