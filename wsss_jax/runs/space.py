"""How much room on the disk a run will take, as far as it can be told before it starts."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np

from wsss_jax.errors import RunError
from wsss_jax.runs.context import Facts, Run
from wsss_jax.runs.parts import Part
from wsss_jax.training.checkpoints import steps
from wsss_jax.training.initial import variable_shapes

_FLOAT = 4  # bytes
_KEPT = 3  # checkpoints: the newest two and the best
_COPIES = 2  # of what is learnt: weights and momentum
_GUESS = 2  # classes in an image


def needed(checked: Iterable[Part]) -> dict[str, int]:
    """Bytes that the stages will still write, by kind; what is there already is not counted.

    CAMs, CRF scores and propagated scores are exact where labels tell the classes. Features, images and
    reports are small beside them and left out.
    """
    found = Counter[str]()
    for part in checked:
        for stage in part.stages:
            found.update(stage.room(part.run, part.facts))
    return {what: count for what, count in found.items() if count}


def checkpoint_bytes(folder: Path, network: object) -> int:
    """Of the checkpoints that a training will keep in a folder and that are not there yet."""
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variable_shapes(network)))
    return max(0, _KEPT - len(steps(folder))) * _COPIES * numbers * _FLOAT


def map_bytes(
    run: Run,
    facts: Mapping[str, Facts],
    path: Callable[[str], Path],
    background: bool = True,
    storage: str = "float32",
) -> int:
    """Of planes, one for each class of an image and for background, that are not in their files yet.

    Args:
      run: whose `cam.class_filter` says which classes; of those that a classifier will find, two are a guess.
      facts: about the images.
      path: of an image's file.
      background: whether it has a plane.
      storage: of the planes, a type of floats.
    """
    every = len(run.source.classes) if run.config.cam.class_filter == "all" else None
    total = 0
    for image_id, fact in facts.items():
        classes = fact.classes if every is None else every
        planes = (_GUESS if classes is None else classes) + background
        total += planes * math.prod(fact.size) * (not path(image_id).exists())
    return total * np.dtype(storage).itemsize


def check_space(run: Run, wanted: Mapping[str, int]) -> None:
    """Raises RunError if there is less room than `needed` has found; of several hosts, the first looks."""
    room = free(run)
    if jax.process_index() == 0 and sum(wanted.values()) > room:
        raise RunError(
            f"{run.layout.workdir}: the run will write {describe(wanted)}, and {size(room)} are free; make "
            "room, or choose another --workdir"
        )


def free(run: Run) -> int:
    """Bytes that are free where the run's folder is or will be."""
    return shutil.disk_usage(_existing(run.layout.workdir)).free


def describe(wanted: Mapping[str, int]) -> str:
    """Such as '3.1 GB (CAMs 2.9 GB, checkpoints 0.2 GB)'."""
    parts = ", ".join(f"{what} {size(count)}" for what, count in wanted.items())
    return f"{size(sum(wanted.values()))} ({parts})" if parts else "nothing more"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _existing(path: Path) -> Path:
    """The folder or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
