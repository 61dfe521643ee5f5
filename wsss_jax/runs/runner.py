"""From a configuration to its stages, in their order."""

import contextlib
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError, Interrupted
from wsss_jax.folder_lock import locked
from wsss_jax.hosts import any_host, together
from wsss_jax.interrupt import stop, stop_on_signals
from wsss_jax.runs import manifest
from wsss_jax.systems.infer_cam.base_classifier import baseline, eval_both
from wsss_jax.runs.checks import check_start
from wsss_jax.stages.classifier import classifier
from wsss_jax.systems.sc_cam.cluster import cluster
from wsss_jax.runs.context import Run, look_into, open_run, recorded
from wsss_jax.stages.crf import crf, eval_crf
from wsss_jax.runs.devices import configure_jax
from wsss_jax.stages.eval_pseudo import eval_pseudo
from wsss_jax.stages.evaluate import eval_cam
from wsss_jax.systems.sc_cam.features import features
from wsss_jax.stages.infer import infer_cam
from wsss_jax.systems.affinity.random_walk import random_walk
from wsss_jax.stages.report import report
from wsss_jax.systems.infer_cam.response import infer_response
from wsss_jax.systems.sc_cam.rounds import rounds
from wsss_jax.runs.space import check_space, needed
from wsss_jax.systems.infer_cam.split import split
from wsss_jax.stages.train import train
from wsss_jax.systems.affinity.train import train_affinity

Stage = Callable[[Run], None]

STAGES: Mapping[str, Stage] = {
    "classifier": classifier,
    "rounds": rounds,
    "features": features,
    "cluster": cluster,
    "train": train,
    "split": split,
    "infer_cam": infer_cam,
    "eval_cam": eval_cam,
    "crf": crf,
    "eval_crf": eval_crf,
    "train_affinity": train_affinity,
    "random_walk": random_walk,
    "eval_pseudo": eval_pseudo,
    "report": report,
}
# Where a method does a stage in its own way.
VARIANTS: Mapping[str, Mapping[str, Stage]] = {
    "infer_cam": {"classifier": baseline, "infer_cam": infer_response, "eval_cam": eval_both},
}
ON_REQUEST = ("split",)  # writes pictures for people; runs only where --stages names it
# What can follow the stages of any method that makes CAMs; run by name, or by `config.refinement`.
REFINEMENTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "crf": ("crf", "eval_crf"),
    "random_walk": ("crf", "eval_crf", "train_affinity", "random_walk", "eval_pseudo"),
}
_OF_AFFINITY = ("train_affinity", "random_walk", "eval_pseudo")
# The others read files, for which one host is enough.
_ON_ALL_HOSTS = (
    "classifier", "rounds", "features", "train", "infer_cam", "crf", "train_affinity", "random_walk",
)  # fmt: skip


def run_stages(config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None = None) -> None:
    """Runs the stages, all of the method's by default, stopping cleanly on SIGTERM and SIGINT.

    Raises:
      UserError: something that the user can mend.
      Interrupted: a signal asked to stop; all work so far is saved.
    """
    configure_jax(config)
    log = Path(workdir).expanduser().absolute() / "logs" / f"host_{jax.process_index()}.txt"
    with stop_on_signals(), together(log):
        check_before(config, workdir, stages)
        run_stages_of(config, workdir, stages)


def check_before(config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None) -> None:
    """Checks what the stages will need while nothing is written yet; UserError says what is wrong."""
    run = look_into(config, workdir)
    wanted = checked_stages(run, stages)
    check_space(run, needed(run, wanted, check_start(run, wanted)))


def run_stages_of(config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None) -> None:
    """Runs the stages in one folder, which no other program may use meanwhile."""
    learning = [stage for stage in stages or () if stage in _OF_AFFINITY]
    if learning and config.refinement != "random_walk" and config.dataset.infer_split == "auto":
        raise ConfigError(
            f"--stages={learning[0]}: give --config.refinement=random_walk too, so that every stage takes "
            f"the CAMs of {config.dataset.train_split!r}, or choose others by --config.dataset.infer_split"
        )
    with locked(workdir) if jax.process_index() == 0 else contextlib.nullcontext():
        run = open_run(config, workdir)
        with recorded(run):
            run_opened(run, stages)


def run_opened(run: Run, stages: Sequence[str] | None) -> None:
    """Runs the stages of an opened run."""
    for stage in checked_stages(run, stages):
        run.say(f"== {stage} ({run.layout.workdir.name})")
        if jax.process_index() == 0:
            manifest.keep_time(run.layout.manifest)
        _run_stage(run, stage)


def _run_stage(run: Run, stage: str) -> None:
    """Hosts meet after each stage, since the next one reads what all of them wrote; where one was asked to
    stop, all stop there."""
    try:
        if jax.process_index() == 0 or stage in _ON_ALL_HOSTS:
            VARIANTS.get(run.config.method, {}).get(stage, STAGES[stage])(run)
    except Interrupted:
        any_host(True)
        raise
    if any_host(False):
        stop(f"{stage} was stopped on another host")


def checked_stages(run: Run, stages: Sequence[str] | None) -> Sequence[str]:
    """The wanted stages in their order; ConfigError names one that the method does not have."""
    own = [stage for stage in run.method.stages if stage != "report"]
    refining = list(dict.fromkeys(stage for chain in REFINEMENTS.values() for stage in chain))
    known = [*own, *refining, "report"]
    if stages is None:
        wanted = [*own, *REFINEMENTS[run.config.refinement], "report"]
        stages = [stage for stage in wanted if stage not in ON_REQUEST]
    for stage in stages:
        if stage not in known:
            near = difflib.get_close_matches(stage, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"--stages={stage}: the method {run.config.method} has no such stage; {hint}")
    return [stage for stage in known if stage in stages]
