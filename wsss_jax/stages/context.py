"""What every stage is given: configuration, data, method, devices and the run's folder."""

import functools
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import wsss_jax
from wsss_jax.config import flatten, resolved, validate
from wsss_jax.data.source import Source, label_matrix, make_source
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.files import append_line, remove_temporary, write_json
from wsss_jax.method import Method
from wsss_jax.methods import make_method
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.layout import Layout

# Settings that change neither the weights nor how they are reached; all others may not change within a run.
_FREE = (
    "cam.", "infer_cam.", "eval.", "crf.", "affinity.", "walk.", "loader.", "log.", "report.", "checkpoint.",
    "classifier.cam.", "classifier.eval.",
)  # fmt: skip
_FREE_KEYS = (
    "refinement", "compilation_cache", "distributed", "dataset.root", "dataset.infer_split",
    "dataset.eval_split",
)  # fmt: skip
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True)
class Run:
    """A run in its folder."""

    config: ConfigDict
    layout: Layout

    @functools.cached_property
    def source(self) -> Source:
        """The data set."""
        dataset = self.config.dataset
        options = dict(dataset.shapes) if dataset.name == "shapes" else {}
        return make_source(dataset.name, dataset.root, **options)

    @functools.cached_property
    def method(self) -> Method:
        """The system."""
        return make_method(self.config, len(self.source.classes))

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All devices."""
        return data_mesh()

    @functools.cached_property
    def local_mesh(self) -> Mesh:
        """This process's devices; inference needs no others."""
        return data_mesh(jax.local_devices())

    def ids(self, split: str) -> tuple[str, ...]:
        """Image ids of a split."""
        return self.source.ids(split)

    def say(self, text: str) -> None:
        """Prints a line and keeps it in logs/log.txt; only the first process speaks."""
        if jax.process_index() == 0:
            print(text, flush=True)
            append_line(self.layout.logs / "log.txt", text)


def open_run(config: ConfigDict, workdir: str | Path) -> Run:
    """Checks the configuration, opens or creates the folder, and writes config.json and manifest.json.

    Raises:
      ConfigError: a value cannot be used, or the folder was made by another configuration.
      RunError: the folder cannot be written.
    """
    validate(config)
    chosen, config = config.dataset.infer_split, resolved(config)
    cams_from = Path(config.cams_from).expanduser().absolute() if config.cams_from else None
    run = Run(config, Layout(Path(workdir).expanduser().absolute(), cams_from=cams_from))
    if run.layout.workdir.is_file():
        raise RunError(f"{run.layout.workdir} is a file; choose a folder with --workdir")
    _ = run.method, run.source  # what they refuse must leave no trace in the folder
    if chosen == "auto":
        _check_part(run)
    if run.layout.config.exists():
        _check_same(json.loads(run.layout.config.read_text()), dict(_plain(config)), run.layout)
    if jax.process_index() == 0:
        write_json(run.layout.config, dict(_plain(config)))
        write_json(run.layout.manifest, _manifest())
        remove_temporary(run.layout.workdir)
    return run


def _check_part(run: Run) -> None:
    """ConfigError unless what is scored is part of what AffinityNet trains on, where that decides."""
    dataset = run.config.dataset
    if dataset.infer_split == dataset.eval_split:
        return
    outside = set(run.ids(dataset.eval_split)) - set(run.ids(dataset.infer_split))
    if outside:
        raise ConfigError(
            f"config.dataset.eval_split={dataset.eval_split!r}: {len(outside)} of its images, such as "
            f"{min(outside)!r}, are not in {dataset.infer_split!r}, on which AffinityNet trains; score a "
            "part of that, or name the split whose CAMs are made and refined by --config.dataset.infer_split"
        )


def given_classes(source: Source, ids: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The image-level labels as class indices, ascending."""
    labels = label_matrix(source, ids)
    return {i: tuple(int(c) for c in np.flatnonzero(row)) for i, row in zip(ids, labels, strict=True)}


def _plain(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """Flat JSON values; tuples become lists as they would in a file."""
    return ((key, json.loads(json.dumps(value))) for key, value in flatten(config))


def _check_same(saved: dict[str, Any], now: dict[str, Any], layout: Layout) -> None:
    missing = object()
    for key in sorted(saved.keys() | now.keys()):
        free = key.startswith(_FREE) or key in _FREE_KEYS
        before, after = saved.get(key, missing), now.get(key, missing)
        if not free and before != after:
            was = "nothing" if before is missing else repr(before)
            want = "nothing" if after is missing else repr(after)
            raise ConfigError(
                f"{layout.workdir} was made with config.{key}={was}, and now it is {want}; "
                "choose another --workdir, or give the setting it was made with"
            )


def _manifest() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in _PACKAGES}
    devices = [f"{d.platform}:{d.device_kind}" for d in jax.devices()]
    return {
        "wsss_jax": wsss_jax.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "devices": devices,
        "processes": jax.process_count(),
    }


def require(path: Path, what: str, stage: str) -> None:
    """RunError if what an earlier stage makes is not there."""
    if not path.exists():
        raise RunError(f"{path}: there are no {what}; run the stage {stage} first (--stages={stage},...)")
