"""What a run is made of: its configuration, folder and data, a system and its stages, runs within the run."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from wsss_jax.config import resolved
from wsss_jax.data.loader import MakeSample
from wsss_jax.data.source import Source, label_matrix, make_source
from wsss_jax.errors import RunError
from wsss_jax.files import append_line
from wsss_jax.refinement.settings import CrfSettings
from wsss_jax.report import Figure
from wsss_jax.runs.layout import Layout
from wsss_jax.runs.registry import Registry
from wsss_jax.runs.scored import Scored
from wsss_jax.sharding import data_mesh
from wsss_jax.training.loop import Optimizer

# Keys of section `dataset`.
TRAIN_SPLIT, INFER_SPLIT, EVAL_SPLIT, SEG_SPLIT = "train_split", "infer_split", "eval_split", "seg_split"


@dataclass(frozen=True)
class Facts:
    """What is known of an image without decoding it."""

    size: tuple[int, int]  # H, W
    classes: int | None  # how many it shows by its labels; None where these are not used


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of a run. It reads what earlier ones wrote, can be stopped, and goes on where it was.

    Everything but `function` is asked before the first stage runs, and must not write.

    Attributes:
      name: as in --stages.
      function: does it, after the runs of `inner`; called on the first host only, unless `all_hosts`.
      inner: the runs that must run inside this one first.
      reads: of a configuration, the splits whose images are needed: of TRAIN_SPLIT the labels too, of
        EVAL_SPLIT the masks, of SEG_SPLIT neither. A stage that reads INFER_SPLIT and
        EVAL_SPLIT scores the maps of the one on the other, which must be a part of it.
      weights: files of weights that will be read, by their keys in the configuration.
      room: bytes that will still be written, by kind; see `runs.space`. Given the facts about each image of
        INFER_SPLIT, if the stage reads it.
      check: raises a UserError if something else is missing, such as an optional package.
      all_hosts: whether every host takes part.
      on_request: runs only where --stages names it.
      last: comes after those of `config.refinement`.
      refining: `config.refinement` must name one of the chains that it belongs to, or `dataset.infer_split` a
        split, because that decides on which images the stage works.
      training: what trains, such as 'AffinityNet', and the folder of its train.jsonl in logs/. The system's
        own training, in logs/ itself, is not named.
      scored: what metrics that the stage has written are of, given their name, which begins with the stage's;
        None for a stage without.
      figures: images for the report.
    """

    name: str
    function: Callable[["Run"], None]
    inner: Callable[["Run"], "Sequence[SubRun]"] = lambda run: ()
    reads: Callable[[ConfigDict], tuple[str, ...]] = lambda config: ()
    weights: Callable[["Run"], Mapping[str, str]] = lambda run: {}
    room: Callable[["Run", Mapping[str, Facts]], Mapping[str, int]] = lambda run, facts: {}
    check: Callable[["Run"], None] = lambda run: None
    all_hosts: bool = False
    on_request: bool = False
    last: bool = False
    refining: bool = False
    training: tuple[str, str] | None = None
    scored: Callable[["Run", str, dict[str, Any]], Scored | None] = lambda run, name, metrics: None
    figures: Callable[["Run"], Iterable[Figure]] = lambda run: ()


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """How a system's network learns to segment from masks, and how its label maps are refined.

    Attributes:
      sample: what is made of each image, given the function that reads its mask.
      optimizer: of section `segmentation`.
      crf: of the dense CRF.
      crf_image: what the authors' CRF sees of an image uint8[H, W, 3].
    """

    sample: "Callable[[Run, Callable[[str], np.ndarray]], MakeSample]"
    optimizer: Callable[[ConfigDict], Optimizer]
    crf: CrfSettings
    crf_image: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class System:
    """A weakly supervised system; a new one is a folder in `wsss_jax/systems/` and a line in its registry.

    Attributes:
      name: of `config.method`.
      title: what reports call it.
      make: the method of a configuration and a number of foreground classes; ConfigError if that cannot be.
      stages: in their order.
      sample: what is made of each image of a training list, if it is more than crop and labels.
      epochs: how long a configuration trains, if not for `total_epochs`.
      map_settings: keys that no other system's maps depend on.
      published: state dicts of files of weights that make its maps. Each has a function that gets the
        parameters, sets the sizes in a configuration by them, and returns the number of classes.
      segmentation: for one whose network segments, what the stages of segmentation ask it for.
    """

    name: str
    title: str
    make: Callable[[ConfigDict, int], Any]
    stages: tuple[Stage, ...]
    sample: "Callable[[Run, Sequence[str]], MakeSample] | None" = None
    epochs: Callable[[ConfigDict], int] = lambda config: config.total_epochs
    map_settings: tuple[str, ...] = ()
    published: Mapping[str, Callable[[ConfigDict, Mapping[str, Any]], int]] = field(default_factory=dict)
    segmentation: SegmentationRecipe | None = None


@dataclass(frozen=True)
class Run:
    """A run in its folder."""

    config: ConfigDict
    layout: Layout
    registry: Registry

    @functools.cached_property
    def system(self) -> System:
        """The system that `config.method` names."""
        return self.registry.system(self.config.method)

    @functools.cached_property
    def source(self) -> Source:
        """The data set."""
        dataset = self.config.dataset
        options = dict(dataset.shapes) if dataset.name == "shapes" else {}
        return make_source(dataset.name, dataset.root, **options)

    @functools.cached_property
    def method(self) -> Any:
        """What the system makes of the configuration."""
        return self.system.make(self.config, len(self.source.classes))

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices."""
        return data_mesh()

    @functools.cached_property
    def local_mesh(self) -> Mesh:
        """This process's devices; inference needs no others."""
        return data_mesh(jax.local_devices())

    def within(self, layout: Layout, config: ConfigDict) -> "Run":
        """A run within this one."""
        return Run(resolved(config), layout, self.registry)

    def ids(self, split: str) -> tuple[str, ...]:
        """Image ids of a split."""
        return self.source.ids(split)

    def say(self, text: str) -> None:
        """Prints a line and keeps it in logs/log.txt; only the first process speaks."""
        if jax.process_index() == 0:
            print(text, flush=True)
            self.note(text)

    def note(self, text: str) -> None:
        """Keeps a line in logs/log.txt, with the time, without printing it."""
        if jax.process_index() == 0:
            if self.layout.workdir.is_dir():  # else it was removed, which is told below
                self.layout.logs.mkdir(parents=True, exist_ok=True)
            append_line(self.layout.logs / "log.txt", f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")


@dataclass(frozen=True)
class SubRun:
    """A run that must run within another one.

    Attributes:
      run: in its own folder, usually one inside the other's, where it has its own config.json.
      stages: names of those that run; the others are left alone.
      title: what reports call its maps; '' where these are only compared with those of the run around it, by
        the title of their system.
      section: of the outer configuration, where the settings come from that are its own.
    """

    run: Run
    stages: tuple[str, ...]
    title: str = ""
    section: str = ""


def given_classes(source: Source, ids: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The image-level labels as class indices, ascending."""
    labels = label_matrix(source, ids)
    return {i: tuple(int(c) for c in np.flatnonzero(row)) for i, row in zip(ids, labels, strict=True)}


def require_cams(run: Run) -> Path:
    """The note in the folder of the CAMs of `dataset.infer_split`; RunError if they are not made yet."""
    split = run.config.dataset.infer_split
    path = run.layout.cams(split) / "settings.json"
    if run.config.cams_from and not path.exists():
        raise RunError(
            f"{path}: the run that config.cams_from names has no CAMs of {split}; run its stage infer_cam "
            f"with --config.dataset.infer_split={split} first, or name another run or split"
        )
    require(path, "CAMs", "infer_cam")
    return path


def require(path: Path, what: str, stage: str) -> None:
    """RunError if what an earlier stage makes is not there."""
    if not path.exists():
        raise RunError(f"{path}: there are no {what}; run the stage {stage} first (--stages={stage},...)")
