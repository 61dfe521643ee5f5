"""Writes converted weights, whole or not at all: a checkpoint's folder, safetensors, `.npz` or `.pth`."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from etils import epath

from wsss_jax import __version__, weights
from wsss_jax.convert.source import Source
from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.weights.loading import own
from wsss_jax.weights.mapping import Variables, find_network
from wsss_jax.weights.npz_files import write_npz
from wsss_jax.weights.safetensors_files import write_safetensors
from wsss_jax.weights.torch_writer import write_torch

_NO_HASH = "0" * 64  # as long as a hash


def write(source: Source, destination: str, form: str, *, overwrite: bool = False) -> None:
    """Fits the source to its network and writes it.

    Args:
      source: what was read.
      destination: a path that does not exist yet; `gs://` works too.
      form: a key of `WRITERS`. `orbax` is a folder that `init_from` takes, floating-point numbers as float32;
        the others have PyTorch's names and layouts, and the source's types.
      overwrite: replace what is there.

    Raises:
      CheckpointError: the tensors are not the network's, or the destination exists or cannot be written.
    """
    variables = source.fit()
    target = epath.Path(destination)
    if target.exists() and not overwrite:
        raise CheckpointError(f"{destination}: is there already; give another name or --overwrite")
    try:
        with _staging(destination) as staged:
            WRITERS[form](staged, variables, source)
            _publish(staged, target)
    except (OSError, RunError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # the rest of it speaks to training
        reason = getattr(cause, "strerror", None) or f"{cause}".partition("\n")[0][:200]
        raise CheckpointError(f"{destination}: cannot be written: {reason}") from error


@contextlib.contextmanager
def _staging(destination: str) -> Iterator[Path]:
    """A path in a temporary folder, beside a local destination, that is removed in the end."""
    parent = None if "://" in destination else Path(destination).resolve().parent
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".convert_weights.") as folder:
        yield Path(folder) / "result"


def _publish(staged: Path, target: epath.Path) -> None:
    if target.is_dir():
        target.rmtree()
    if "://" not in str(target):
        os.replace(staged, target)
    elif staged.is_dir():
        _upload(staged, target)
    else:
        epath.Path(staged).copy(target, overwrite=True)


def _upload(staged: Path, target: epath.Path) -> None:
    """Copies a folder; `meta`, without which a checkpoint counts as incomplete, comes last."""
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.relative_to(staged).parts[0] == "meta"):
        remote = target / str(path.relative_to(staged))
        remote.parent.mkdir(parents=True, exist_ok=True)
        epath.Path(path).copy(remote)


def _write_orbax(path: Path, variables: Variables, source: Source) -> None:
    """The folder that `training.checkpoints.restore` reads."""
    from wsss_jax.training.checkpoints import Checkpoints  # JAX and Orbax; the other forms do without

    with Checkpoints(path.parent) as checkpoints:
        checkpoints.save(0, own(variables, np.float32), {}, _facts(source, source.sha256))
    (path.parent / "0").rename(path)


def _write_safetensors(path: Path, variables: Variables, source: Source) -> None:
    """The header is in front, but holds the source's hash, which is still being computed: it is set last."""
    tensors = _first_names(variables, source)
    write_safetensors(path, tensors, _facts(source, _NO_HASH))
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length).replace(_NO_HASH.encode(), source.sha256.encode())
        stream.seek(8)
        stream.write(header)


def _write_npz(path: Path, variables: Variables, source: Source) -> None:
    with path.open("wb") as stream:  # np.savez would append an extension
        write_npz(stream, _first_names(variables, source))


def _write_torch(path: Path, variables: Variables, source: Source) -> None:
    with path.open("wb") as stream:
        write_torch(stream, _tensors(variables, source))


def _tensors(variables: Variables, source: Source) -> dict[str, np.ndarray]:
    """By PyTorch's names, in its layout."""
    return weights.from_variables(variables, str(source.network), blocks=source.blocks)


def _first_names(variables: Variables, source: Source) -> dict[str, np.ndarray]:
    """The same without second names, for formats that would hold their numbers again."""
    second = tuple(f"{name}." for name, _ in find_network(str(source.network)).aliases)
    return {name: x for name, x in _tensors(variables, source).items() if not name.startswith(second)}


def _facts(source: Source, source_sha256: str) -> dict[str, str]:
    """What is written beside the numbers about where they are from."""
    return {
        "network": str(source.network),
        "source": os.path.basename(source.path.rstrip("/")),
        "source_sha256": source_sha256,
        "wsss_jax": __version__,
    }


WRITERS: dict[str, Callable[[Path, Variables, Source], None]] = {
    "orbax": _write_orbax,
    "safetensors": _write_safetensors,
    "npz": _write_npz,
    "pth": _write_torch,
}
