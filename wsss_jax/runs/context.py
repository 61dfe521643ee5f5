"""What every stage is given: configuration, data, method, devices and the run's folder."""

import contextlib
import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from wsss_jax.config import flatten, is_free, resolved, validate
from wsss_jax.data.source import Source, label_matrix, make_source
from wsss_jax.errors import ConfigError, Interrupted, RunError, UserError
from wsss_jax.files import append_line, read_json, remove_temporary, write_json
from wsss_jax.method import Method
from wsss_jax.runs import manifest
from wsss_jax.runs.layout import Layout
from wsss_jax.sharding import data_mesh
from wsss_jax.systems.registry import make_method


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
            self.note(text)

    def note(self, text: str) -> None:
        """Keeps a line in logs/log.txt, with the time, without printing it."""
        if jax.process_index() == 0:
            if (
                self.layout.outer or self.layout.workdir
            ).is_dir():  # else it was removed, which is told below
                self.layout.logs.mkdir(parents=True, exist_ok=True)
            append_line(self.layout.logs / "log.txt", f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")


def open_run(config: ConfigDict, workdir: str | Path) -> Run:
    """Opens or creates the folder, and writes config.json and manifest.json.

    Raises:
      ConfigError: a value cannot be used, or the folder was made by another configuration.
      RunError: the folder cannot be written.
    """
    run = look_into(config, workdir)
    if jax.process_index() == 0:
        write_json(run.layout.config, dict(_plain(run.config)))
        manifest.begin(run.layout.manifest)
        remove_temporary(run.layout.workdir)
    return run


def look_into(config: ConfigDict, workdir: str | Path) -> Run:
    """The run as `open_run` gives it, with the same checks, but nothing is written.

    Raises:
      ConfigError: a value cannot be used, or the folder was made by another configuration.
      RunError: the folder is a file.
    """
    validate(config)
    config = resolved(config)
    cams_from = Path(config.cams_from).expanduser().absolute() if config.cams_from else None
    run = Run(config, Layout(Path(workdir).expanduser().absolute(), cams_from=cams_from))
    if run.layout.workdir.is_file():
        raise RunError(f"{run.layout.workdir} is a file; choose a folder with --workdir")
    _ = run.method, run.source  # for what they refuse
    if run.layout.config.exists() and run.layout.holds_results():
        remedy = "delete it, and give the settings that the run was made with: they are written anew"
        _check_same(read_json(run.layout.config, remedy), dict(_plain(config)), run.layout)
    return run


@contextlib.contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Keeps in log and manifest of an opened run by what command it was started, and how that ended."""
    starts = manifest.read(run.layout.manifest).get("starts")
    run.note(f"command: {starts[-1]['command'] if starts else manifest.command(sys.orig_argv)}")
    try:
        yield
    except Interrupted as stop:
        _record_end(run, f"stopped: {stop}")
        raise
    except BaseException as error:  # KeyboardInterrupt too: a second signal
        with contextlib.suppress(RunError):  # a full disk, say, of which the error tells already
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            _record_end(run, f"failed: {' '.join(reason.split())}")
        raise
    _record_end(run, "done")


def _record_end(run: Run, end: str) -> None:
    run.note(end)
    if jax.process_index() == 0:
        manifest.keep_time(run.layout.manifest, end)


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
        before, after = saved.get(key, missing), now.get(key, missing)
        if before != after and not is_free(key):
            was = "nothing" if before is missing else repr(before)
            want = "nothing" if after is missing else repr(after)
            raise ConfigError(
                f"{layout.workdir} was made with config.{key}={was}, and now it is {want}; "
                "choose another --workdir, or give the setting it was made with"
            )


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
