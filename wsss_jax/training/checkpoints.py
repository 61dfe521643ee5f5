"""Orbax checkpoints that notice damage: the newest and the best are kept, and every leaf is under a digest.

Orbax itself restores flipped bits without a word, ranks a NaN metric as best, and takes an empty folder for
its newest step. So metrics must be finite, a SHA-256 of the leaves is saved and verified, and what is not
sound is passed over.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.sharding import to_host
from wsss_jax.weights.digests import leaf_digest, tree_digest

_NOT_EVALUATED = -1.0


@dataclass(frozen=True)
class Restored:
    """A sound checkpoint, as NumPy arrays."""

    step: int
    variables: dict[str, Any]
    meta: Mapping[str, Any]
    extra: Mapping[str, np.ndarray]  # what else training saved, by name; empty where not asked for


def digest(tree: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of a tree's arrays, whatever devices hold them."""

    def one(leaf: tuple[Any, np.ndarray]) -> bytes:
        return leaf_digest(jax.tree_util.keystr(leaf[0]), leaf[1])

    leaves = jax.tree_util.tree_leaves_with_path(to_host(tree))
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        return tree_digest(pool.map(one, leaves))


class Checkpoints:
    """Saves the checkpoints of one network as `<folder>/<step>/{variables, extra, meta}`."""

    def __init__(self, folder: str | Path) -> None:
        """Opens or creates the folder; RunError if that cannot be."""
        self.folder = epath.Path(folder)
        if "://" not in str(folder):
            self.folder = self.folder.resolve()  # Orbax refuses relative paths
        best = checkpoint_managers.BestN(
            get_metric_fn=lambda m: m["score"], n=1, keep_checkpoints_without_metrics=False
        )
        newest = checkpoint_managers.LatestN(2)  # two, so that one is left when the other is damaged
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([newest, best]),
            best_fn=lambda m: m["score"],
            cleanup_tmp_directories=True,
        )
        with _saving_errors(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(
        self,
        step: int,
        variables: Mapping[str, Any],
        extra: Mapping[str, Any],
        meta: Mapping[str, Any],
        score: float | None = None,
    ) -> None:
        """Starts to save, unless the step is saved already; training goes on meanwhile.

        Args:
          step: number of steps done.
          variables: of the network that learns.
          extra: what else training needs to go on, by name.
          meta: JSON values that describe network and run.
          score: higher is better, as mIoU is; None if this step was not evaluated.

        Raises:
          RunError: the score is not finite, or this or the previous save failed (a full disk, say).
        """
        if score is not None and not math.isfinite(score):
            raise RunError(
                f"{self.folder}: step {step} has the score {score}; a checkpoint needs a finite one"
            )
        if step in self.saved_steps():
            return
        variables, extra = to_host(dict(variables)), to_host(dict(extra))
        digests = {"variables": digest(variables), "extra": digest(extra)}
        items = ocp.args.Composite(
            variables=ocp.args.StandardSave(variables),
            extra=ocp.args.StandardSave(extra),
            meta=ocp.args.JsonSave({**meta, "step": step, "score": score, "digest": digests}),
        )
        metrics = {"score": _NOT_EVALUATED if score is None else score}
        with _saving_errors(self.folder):
            if not self._manager.save(step, args=items, metrics=metrics):
                raise RunError(f"{self.folder}: step {step} was refused; steps there: {self.saved_steps()}")

    def newest(self, warn: Callable[[str], None] = print) -> Restored | None:
        """Restores the newest sound checkpoint; an unsound one is set aside as `damaged-<step>` and told
        of."""
        for step in reversed(steps(self.folder)):
            try:
                return restore(self.folder / str(step), with_extra=True)
            except CheckpointError as error:
                aside = self.folder / f"damaged-{step}"
                (self.folder / str(step)).rename(aside)
                self._manager.reload()
                warn(f"{error}; set aside as {aside.name}, going back to the checkpoint before")
        return None

    def forget(self, step: int) -> None:
        """Deletes a step, so that it can be saved anew."""
        self._manager.delete(step)

    def saved_steps(self) -> list[int]:
        """The steps that are kept, in ascending order."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Waits until everything is on disk; RunError if it could not be written."""
        with _saving_errors(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and ends Orbax's threads."""
        self.wait()
        self._manager.close()


def steps(folder: str | Path) -> list[int]:
    """The steps that have a folder, in ascending order; whether each is sound shows only when it is
    restored."""
    path = epath.Path(folder)
    return sorted(int(p.name) for p in path.iterdir() if p.name.isdigit()) if path.is_dir() else []


def read_meta(folder: str | Path) -> dict[str, Any]:
    """What `save` was told of the network; CheckpointError if it cannot be read."""
    path = epath.Path(folder) / "meta" / "metadata"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a whole checkpoint ({path.name} cannot be read)") from error


def restore(folder: str | Path, *, with_extra: bool = False) -> Restored:
    """Restores `<checkpoints>/<step>` and verifies it; CheckpointError if it is damaged or incomplete."""
    folder = epath.Path(folder)
    meta = read_meta(folder)
    variables = _restore_item(folder, "variables", meta)
    extra = _restore_item(folder, "extra", meta) if with_extra else {}
    return Restored(meta["step"], variables, meta, extra)


def best_step(folder: str | Path) -> int | None:
    """The step with the highest score, the newest if none was evaluated, None if there is no step at all."""
    scored = []
    for step in steps(folder):
        with contextlib.suppress(CheckpointError):
            score = read_meta(epath.Path(folder) / str(step)).get("score")
            scored.append((_NOT_EVALUATED if score is None else score, step))
    return max(scored)[1] if scored else None


def _restore_item(folder: epath.Path, item: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = to_host(checkpointer.restore(folder.resolve() / item))
    # Orbax and TensorStore report a damaged file by many types, among them KeyError and XlaRuntimeError.
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder}: damaged, {item} cannot be restored ({reason})") from error
    if digest(tree) != meta.get("digest", {}).get(item):
        raise CheckpointError(f"{folder}: damaged, {item} is not what was saved (its SHA-256 differs)")
    return tree


@contextlib.contextmanager
def _saving_errors(folder: epath.Path) -> Iterator[None]:
    """Turns what Orbax raises when a folder is full or not writable into one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RunError):
            raise
        reason = str(error).splitlines()[0][:200]
        raise RunError(
            f"{folder}: a checkpoint cannot be written ({reason}); make room or choose another --workdir, "
            "then give the same command again"
        ) from error
