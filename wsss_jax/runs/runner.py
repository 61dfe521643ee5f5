"""From a configuration to its stages, in their order, and to the runs within the run."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError, Interrupted
from wsss_jax.folder_lock import locked
from wsss_jax.hosts import any_host, together
from wsss_jax.interrupt import stop, stop_on_signals
from wsss_jax.runs import manifest
from wsss_jax.runs.checks import check_start
from wsss_jax.runs.context import Run, Stage
from wsss_jax.runs.devices import configure_jax
from wsss_jax.runs.opening import check, look_into, recorded, write_start
from wsss_jax.runs.parts import checked_stages
from wsss_jax.runs.registry import Registry
from wsss_jax.runs.space import check_space, needed


def run_stages(
    config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None, registry: Registry
) -> None:
    """Runs the stages, all of the system's by default, stopping cleanly on SIGTERM and SIGINT.

    Raises:
      UserError: something that the user can mend.
      Interrupted: a signal asked to stop; all work so far is saved.
    """
    configure_jax(config)
    log = Path(workdir).expanduser().absolute() / "logs" / f"host_{jax.process_index()}.txt"
    with stop_on_signals(), together(log):
        check_before(config, workdir, stages, registry)
        run_stages_of(config, workdir, stages, registry)


def check_before(
    config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None, registry: Registry
) -> None:
    """Checks what the stages will need while nothing is written yet; UserError says what is wrong."""
    run = look_into(config, workdir, registry)
    check_space(run, needed(check_start(run, checked_stages(run, stages))))


def run_stages_of(
    config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None, registry: Registry
) -> None:
    """Runs the stages in one folder, which no other program may use meanwhile."""
    run = look_into(config, workdir, registry)
    wanted = checked_stages(run, stages)
    if config.dataset.infer_split == "auto":
        _check_refinement(run, wanted)
    _run_all(run, wanted)


def _check_refinement(run: Run, stages: Sequence[Stage]) -> None:
    registry = run.registry
    for stage in (stage for stage in stages if stage.refining):
        chains = [name for name in registry.refinements if stage in registry.refinement(name)]
        if run.config.refinement not in chains:
            raise ConfigError(
                f"--stages={stage.name}: give --config.refinement={' or '.join(chains)} too, so that every "
                f"stage takes the CAMs of {run.config.dataset.train_split!r}, or choose others by "
                "--config.dataset.infer_split"
            )


def _run_all(run: Run, stages: Sequence[Stage]) -> None:
    with locked(run.layout.workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        check(run)
        write_start(run)
        any_host(False)  # the others write nothing before the folder is tidied
        with recorded(run):
            for stage in stages:
                run.say(f"== {stage.name} ({run.layout.workdir.name})")
                if jax.process_index() == 0:
                    manifest.keep_time(run.layout.manifest)
                _run_stage(run, stage)


def _run_stage(run: Run, stage: Stage) -> None:
    """Hosts meet after each stage, since the next one reads what all of them wrote; where one was asked to
    stop, all stop there."""
    for inner in stage.inner(run):
        _run_all(inner.run, checked_stages(inner.run, inner.stages))
    try:
        if jax.process_index() == 0 or stage.all_hosts:
            stage.function(run)
    except Interrupted:
        any_host(True)
        raise
    if any_host(False):
        stop(f"{stage.name} was stopped on another host")
