"""Writes converted weights, whole or not at all: a checkpoint's folder, safetensors or `.npz`."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from tools.convert_weights.source import Source
from wsss_jax import __version__, weights
from wsss_jax.errors import CheckpointError
from wsss_jax.weights.loading import own
from wsss_jax.weights.mapping import Variables
from wsss_jax.weights.npz_files import write_npz
from wsss_jax.weights.safetensors_files import write_safetensors


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
    facts = {
        "network": str(source.network),
        "source": os.path.basename(source.path.rstrip("/")),
        "source_sha256": source.sha256,
        "wsss_jax": __version__,
    }
    try:
        with _staging(destination) as staged:
            WRITERS[form](str(staged), variables, facts)
            _publish(staged, target)
    except OSError as error:
        raise CheckpointError(f"{destination}: cannot be written: {error.strerror or error}") from error


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


class _Final(np.ndarray):
    """Numbers that nobody will change; Orbax copies others, in case they change while it writes."""

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "_Final":
        return self


def _write_orbax(path: str, variables: Variables, facts: Mapping[str, str]) -> None:
    """The folder that `training.checkpoints.restore` reads: `variables` by Orbax, `meta/metadata` as JSON.

    Compression would save 8 % of the size, and Orbax's database of many arrays in one file (OCDBT) would take
    six times as long for nothing: this is written once.
    """
    import jax  # here, since it and Orbax take seconds to import
    import orbax.checkpoint as ocp

    from wsss_jax.training.checkpoints import digest

    arrays = own(variables, np.float32)
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, use_ocdbt=False)
    with ThreadPoolExecutor(1) as pool, ocp.Checkpointer(handler) as checkpointer:
        hashed = pool.submit(digest, arrays)
        saved = jax.tree.map(lambda array: array.view(_Final), arrays)
        checkpointer.save(os.path.join(path, "variables"), args=ocp.args.PyTreeSave(saved))
    meta = {"step": 0, "score": None, "digest": {"variables": hashed.result()}, **facts}
    os.mkdir(os.path.join(path, "meta"))
    Path(path, "meta", "metadata").write_text(json.dumps(meta, indent=2) + "\n")


def _write_safetensors(path: str, variables: Variables, facts: Mapping[str, str]) -> None:
    write_safetensors(path, weights.from_variables(variables, facts["network"]), facts)


def _write_npz(path: str, variables: Variables, facts: Mapping[str, str]) -> None:
    with open(path, "wb") as stream:  # np.savez would append an extension
        write_npz(stream, weights.from_variables(variables, facts["network"]))


WRITERS: dict[str, Callable[[str, Variables, Mapping[str, str]], None]] = {
    "orbax": _write_orbax,
    "safetensors": _write_safetensors,
    "npz": _write_npz,
}
