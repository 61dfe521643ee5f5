"""A run's folder: looked into before anything is written, opened, and kept a record of."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wsss_jax.config import flatten, is_free, resolved, validate
from wsss_jax.errors import ConfigError, Interrupted, RunError, UserError
from wsss_jax.files import read_json, remove_temporary, write_json
from wsss_jax.runs import manifest
from wsss_jax.runs.context import Run
from wsss_jax.runs.layout import Layout
from wsss_jax.runs.registry import Registry


def look_into(config: ConfigDict, workdir: str | Path, registry: Registry) -> Run:
    """The run of a configuration in a folder, checked; nothing is written.

    Raises:
      ConfigError: a value cannot be used, or the folder was made by another configuration.
      RunError: the folder is a file.
    """
    validate(config)
    config = resolved(config)
    cams_from = Path(config.cams_from).expanduser().absolute() if config.cams_from else None
    run = Run(config, Layout(Path(workdir).expanduser().absolute(), cams_from=cams_from), registry)
    check(run)
    return run


def check(run: Run) -> None:
    """Raises what `look_into` raises."""
    validate(run.config)
    if run.layout.workdir.is_file():
        raise RunError(f"{run.layout.workdir} is a file; choose a folder with --workdir")
    _ = run.method, run.source  # for what they refuse
    if run.layout.config.exists() and run.layout.holds_results():
        remedy = "delete it, and give the settings that the run was made with: they are written anew"
        _check_same(read_json(run.layout.config, remedy), dict(_plain(run.config)), run.layout)


def write_start(run: Run) -> None:
    """Creates the folder, or goes on with it: writes config.json and manifest.json."""
    if jax.process_index() == 0:
        write_json(run.layout.config, dict(_plain(run.config)))
        manifest.begin(run.layout.manifest)
        remove_temporary(run.layout.workdir)


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
