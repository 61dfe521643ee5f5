"""How much room on the disk a run will take, as far as it can be told before it starts."""

import functools
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from wsss_jax.errors import RunError
from wsss_jax.systems.registry import affinity_net
from wsss_jax.models.resnet38 import STRIDE
from wsss_jax.runs.checks import Facts
from wsss_jax.runs.context import Run
from wsss_jax.runs.layout import Layout
from wsss_jax.training.checkpoints import steps
from wsss_jax.training.initial import variable_shapes

_FLOAT = 4  # bytes
_KEPT = 3  # checkpoints: the newest two and the best
_COPIES = 2  # of what is learnt: weights and momentum
_GUESS = 2  # classes in a picture


class Area(NamedTuple):
    """What the maps of an image take."""

    planes: int
    pixels: int


def needed(run: Run, stages: Sequence[str], facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes that the stages will still write, by kind; what is there already is not counted.

    CAMs, CRF scores and walked scores are exact where labels tell the classes; checkpoints are taken to be of
    the method's network. Features, pictures and reports are small beside them and left out.
    """
    split, wanted = run.config.dataset.infer_split, set(stages)
    areas = {image_id: _area(run, fact) for image_id, fact in facts.items()}
    checkpoints = sum(_checkpoints(run, *item) for item in _trainings(run, wanted))
    maps = [layout.cam for layout in _mapped(run, wanted)]
    crf = [functools.partial(_crf, run, a) for a in (run.config.crf.alphas if "crf" in wanted else ())]
    walked = [run.layout.pseudo_scores] if "random_walk" in wanted else []
    found = {
        "checkpoints": checkpoints,
        "CAMs": (1 + run.config.cam.export_npy) * _missing(maps, split, areas, background=False),
        "CRF scores": _missing(crf, split, areas),
        "walked scores": _missing(walked, split, areas) // STRIDE**2,
    }
    return {what: count for what, count in found.items() if count}


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


def _trainings(run: Run, wanted: set[str]) -> Iterable[tuple[Layout, str, object]]:
    """Folder, name and network of what will be trained; a classifier's size is taken to be the method's."""
    name, network = run.method.trained, run.method.networks[run.method.trained]
    if "classifier" in wanted and not run.config.classifier_from:
        yield Layout(run.layout.classifier), "classifier", network
    if "rounds" in wanted:
        for number in range(1, run.config.sc_cam.rounds):
            yield run.layout.round(number), name, network
    if "train" in wanted:
        yield run.layout, name, network
    if "train_affinity" in wanted and not run.config.walk.checkpoint:
        affinity = affinity_net(run.config)
        yield run.layout, affinity.trained, affinity.network


def _mapped(run: Run, wanted: set[str]) -> Iterable[Layout]:
    """The runs, of those within the run and itself, that make CAMs."""
    if "classifier" in wanted and (run.config.method == "infer_cam" or not run.config.classifier_from):
        yield Layout(run.layout.classifier)
    if "rounds" in wanted:
        yield from (run.layout.round(number) for number in range(1, run.config.sc_cam.rounds))
    if "infer_cam" in wanted:
        yield run.layout


def _checkpoints(run: Run, layout: Layout, name: str, network: object) -> int:
    there = len(steps(layout.checkpoints(name)))
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variable_shapes(network)))
    return max(0, _KEPT - there) * _COPIES * numbers * _FLOAT


def _missing(
    paths: Iterable[Callable[[str, str], Path]],
    split: str,
    areas: Mapping[str, Area],
    background: bool = True,
) -> int:
    """Bytes of float32 planes that are not in their files yet."""
    return sum(
        (area.planes + background) * area.pixels * _FLOAT
        for path in paths
        for image_id, area in areas.items()
        if not path(split, image_id).exists()
    )


def _crf(run: Run, alpha: float, split: str, image_id: str) -> Path:
    return run.layout.crf(split, alpha, image_id)


def _area(run: Run, fact: Facts) -> Area:
    """How many maps an image gets and of what size; of those that a classifier will find, two are a guess."""
    planes = len(run.source.classes) if run.config.cam.class_filter == "all" else fact.classes
    return Area(_GUESS if planes is None else planes, math.prod(fact.size))


def _existing(path: Path) -> Path:
    """The folder or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
