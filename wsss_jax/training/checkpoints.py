"""Orbax checkpoints that notice damage: the newest and the best are kept, and all that is read is under a
digest.

Orbax itself restores flipped bits without a word, cannot add a score to what is saved already, and takes an
empty folder for its newest step. So the leaves and what describes them are under SHA-256, a score is a file
of its own beside the weights, what is kept is decided here, and what is not sound is passed over.
"""

import contextlib
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from logging import ERROR, LogRecord
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.files import is_sound, sealed, write_json
from wsss_jax.sharding import to_host
from wsss_jax.weights.files import raw_bytes

_NEWEST = 2  # kept besides the best, so that one is left when the other is damaged
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names of folders that Orbax has not completed


@dataclass(frozen=True)
class Restored:
    """A sound checkpoint, as NumPy arrays."""

    step: int
    networks: dict[str, Any]  # variables by network
    meta: Mapping[str, Any]
    score: float | None  # None if it was not evaluated
    extra: Mapping[str, np.ndarray]  # what else training saved, by name; empty where not asked for

    @property
    def variables(self) -> dict[str, Any]:
        """Those of the only network; CheckpointError if there are several."""
        if len(self.networks) != 1:
            raise CheckpointError(f"step {self.step} holds several networks: {', '.join(self.networks)}")
        return next(iter(self.networks.values()))


def warn(text: str) -> None:
    """Prints a line where no run keeps a log."""
    print(text, file=sys.stderr, flush=True)


def digest(tree: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of a tree's arrays, whatever devices hold them."""

    def one(leaf: tuple[Any, np.ndarray]) -> bytes:
        name, array = jax.tree_util.keystr(leaf[0]), leaf[1]
        sha = hashlib.sha256(f"{name} {array.dtype} {array.shape}\0".encode())
        sha.update(raw_bytes(np.ascontiguousarray(array)))
        return sha.digest()

    leaves = jax.tree_util.tree_leaves_with_path(to_host(tree))
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        return hashlib.sha256(b"".join(pool.map(one, leaves))).hexdigest()


class Checkpoints:
    """Saves the checkpoints of one task as `<folder>/<step>/{variables, extra, meta, score.json}`.

    Of several hosts, which all hold the same variables, the first writes. Used as a context, it completes
    what is being saved on every way out.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens or creates the folder; RunError if that cannot be."""
        self.folder = epath.Path(folder)
        if "://" not in str(folder):
            self.folder = self.folder.resolve()  # Orbax refuses relative paths
        self._writes = jax.process_index() == 0
        with _saving_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._writes:
                self._remove_unfinished()
        logging.get_absl_logger().addFilter(_is_not_raised_too)
        alone = _this_process()
        composite = ocp.CompositeOptions(multiprocessing_options=alone)
        handler = ocp.CompositeCheckpointHandler(composite_options=composite)
        self._checkpointer = ocp.AsyncCheckpointer(handler, multiprocessing_options=alone)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        try:
            with contextlib.nullcontext() if kind is None else contextlib.suppress(RunError):
                self.wait()  # an error that is on its way already is the one to tell
        finally:
            self._checkpointer.close()

    def save(
        self, step: int, variables: Mapping[str, Any], extra: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> None:
        """Starts to save, unless the step is saved already; training goes on meanwhile.

        Args:
          step: number of steps done.
          variables: of the networks that learn, by name.
          extra: what else training needs to go on, by name; may be empty.
          meta: JSON values that describe network and run.

        Raises:
          RunError: this or the previous save failed (a full disk, say).
        """
        if not self._writes:
            return
        self.wait()
        if step in steps(self.folder):
            return
        trees = {"variables": to_host(dict(variables)), "extra": to_host(dict(extra))}
        trees = {name: tree for name, tree in trees.items() if tree}  # Orbax refuses empty ones
        digests = {name: digest(tree) for name, tree in trees.items()}
        items = ocp.args.Composite(
            meta=ocp.args.JsonSave(sealed({**meta, "step": step, "digest": digests})),
            **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
        )
        with _saving_errors(self.folder):
            self._checkpointer.save(self.folder / str(step), args=items)

    def score(self, step: int, score: float) -> None:
        """Adds a score, by which the best is chosen, to a step that is saved.

        Args:
          step: number of steps done.
          score: higher is better, as mIoU is.

        Raises:
          RunError: the score is not finite or cannot be written.
        """
        if not math.isfinite(score):
            raise RunError(
                f"{self.folder}: step {step} has the score {score}; a checkpoint needs a finite one"
            )
        if self._writes:
            self.wait()
            write_json(self.folder / str(step) / "score.json", {"step": step, "score": score})
            self._remove_old()

    def newest(self, warn: Callable[[str], None] = warn) -> Restored | None:
        """Restores the newest sound checkpoint; an unsound one is set aside as `damaged-<step>` and told of.

        Of several hosts the first looks, so that all go on from the same step.
        """
        found = self._newest_sound(warn) if self._writes else None
        if jax.process_count() == 1:
            return found
        step = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if found is None else found.step)))
        if self._writes or step < 0:
            return found
        return restore(self.folder / str(step), with_extra=True, warn=warn)

    def _newest_sound(self, warn: Callable[[str], None]) -> Restored | None:
        for step in reversed(steps(self.folder)):
            try:
                return restore(self.folder / str(step), with_extra=True, warn=warn)
            except CheckpointError as error:
                aside = _free_name(self.folder / f"damaged-{step}")
                (self.folder / str(step)).rename(aside)
                warn(f"{error}; set aside as {aside.name}, going back to the checkpoint before")
        return None

    def on_disk(self) -> list[int]:
        """Waits for what is being saved; the steps that are there then, in ascending order."""
        with contextlib.suppress(RunError):
            self.wait()
        return steps(self.folder)

    def wait(self) -> None:
        """Waits until everything is on disk; RunError if it could not be written."""
        try:
            with _saving_errors(self.folder):
                self._checkpointer.wait_until_finished()
        except RunError:
            self._remove_unfinished()  # it may be what fills the disk
            raise
        if self._writes:
            self._remove_old()

    def _remove_old(self) -> None:
        saved = steps(self.folder)
        scores = {step: read_score(self.folder / str(step), lambda _: None) for step in saved}
        for step in set(saved) - {*saved[-_NEWEST:], _best(scores)}:
            # Under a name by which a kill amidst the files leaves nothing that looks like a checkpoint.
            going = self.folder / f"{step}{_UNFINISHED}"
            (self.folder / str(step)).rename(going)
            going.rmtree()

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob(f"*{_UNFINISHED}*"):
            path.rmtree(missing_ok=True)


def steps(folder: str | Path) -> list[int]:
    """The steps that have a folder, in ascending order; whether each is sound shows only when it is
    restored."""
    path = epath.Path(folder)
    return sorted(int(p.name) for p in path.iterdir() if p.name.isdigit()) if path.is_dir() else []


def read_meta(folder: str | Path) -> dict[str, Any]:
    """What `save` was told of the network; CheckpointError if it cannot be read or is not what was saved."""
    place = epath.Path(folder)
    try:
        meta = json.loads((place / "meta" / "metadata").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: not a whole checkpoint (meta cannot be read)") from error
    if not is_sound(meta):
        raise CheckpointError(f"{folder}: damaged, meta is not what was saved (its SHA-256 differs)")
    if place.name.isdigit() and meta["step"] not in (0, int(place.name)):  # 0: converted, under any name
        raise CheckpointError(f"{folder}: holds step {meta['step']}; folders are named by their steps")
    return meta


def read_score(folder: str | Path, warn: Callable[[str], None] = warn) -> float | None:
    """The score of a step; None if it was not evaluated, or if its file is damaged, which is told."""
    path = epath.Path(folder) / "score.json"
    try:
        saved = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        saved = None
    if not is_sound(saved) or str(saved["step"]) != path.parent.name:
        warn(f"{path}: damaged; step {path.parent.name} counts as not evaluated")
        return None
    return float(saved["score"])


def restore(folder: str | Path, *, with_extra: bool = False, warn: Callable[[str], None] = warn) -> Restored:
    """Restores `<checkpoints>/<step>` and verifies it; CheckpointError if it is damaged or incomplete."""
    folder = epath.Path(folder)
    meta = read_meta(folder)
    networks = _restore_item(folder, "variables", meta)
    if "params" in networks:  # a converted file has one network, and no task's name for it
        networks = {"network": networks}
    with_extra = with_extra and "extra" in meta.get("digest", {})
    extra = _restore_item(folder, "extra", meta) if with_extra else {}
    return Restored(meta["step"], networks, meta, read_score(folder, warn), extra)


def restore_first(
    folder: str | Path, order: Iterable[int], warn: Callable[[str], None] = warn
) -> Restored | None:
    """The first sound one of the steps; tells of the others before it."""
    for step in order:
        try:
            return restore(epath.Path(folder) / str(step), warn=warn)
        except CheckpointError as error:
            warn(f"{error}; passed over")
    return None


def best_first(folder: str | Path, warn: Callable[[str], None] = warn) -> list[int]:
    """The steps from the highest score to the lowest, then those without one, the newest first."""
    scores = {step: read_score(epath.Path(folder) / str(step), warn) for step in steps(folder)}
    return sorted(scores, key=lambda step: _rank(scores, step), reverse=True)


def best_step(folder: str | Path, warn: Callable[[str], None] = warn) -> int | None:
    """The step with the highest score, the newest if none was evaluated, None if there is no step that can be
    read."""
    for step in best_first(folder, warn):
        try:
            read_meta(epath.Path(folder) / str(step))
            return step
        except CheckpointError as error:
            warn(f"{error}; passed over")
    return None


def _rank(scores: Mapping[int, float | None], step: int) -> tuple[float, int]:
    score = scores[step]
    return (-math.inf if score is None else score, step)


def _best(scores: Mapping[int, float | None]) -> int | None:
    return max(scores, key=lambda step: _rank(scores, step), default=None)


def _free_name(path: epath.Path) -> epath.Path:
    """The path, or with a number behind it where there is such a file already."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Orbax is used by each host for itself: none waits for another."""
    number = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=number, active_processes={number})


def _restore_item(folder: epath.Path, item: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_this_process()) as checkpointer:
            tree = to_host(checkpointer.restore(folder.resolve() / item))
    # Orbax and TensorStore report a damaged file by many types, among them KeyError and XlaRuntimeError.
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder}: damaged, {item} cannot be restored ({reason})") from error
    if digest(tree) != meta.get("digest", {}).get(item):
        raise CheckpointError(f"{folder}: damaged, {item} is not what was saved (its SHA-256 differs)")
    return tree


def _is_not_raised_too(record: LogRecord) -> bool:
    """Orbax logs a traceback of what fails in its threads, and raises it as well."""
    return record.levelno < ERROR or "orbax" not in record.pathname


@contextlib.contextmanager
def _saving_errors(folder: epath.Path) -> Iterator[None]:
    """Turns what Orbax raises when a folder is full or not writable into one line."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RunError):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RunError(
            f"{folder}: a checkpoint cannot be written ({reason}); make room or choose another --workdir, "
            "then give the same command again"
        ) from error
