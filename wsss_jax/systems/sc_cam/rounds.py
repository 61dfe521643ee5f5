"""Stage `rounds`: SC-CAM's rounds before the last, as runs within the run; the last one is the run itself."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from wsss_jax.errors import RunError
from wsss_jax.runs.context import Run, Stage, SubRun, require
from wsss_jax.stages.networks import classifier_path, step_folder
from wsss_jax.systems.sc_cam.files import round_layout
from wsss_jax.training.checkpoints import read_meta

_STAGES = ("features", "cluster", "train", "infer_cam", "eval_cam")


def rounds_before(run: Run) -> Sequence[SubRun]:
    """Each round before the last in its own folder; every one goes on where it was."""
    numbers = range(1, run.config.sc_cam.rounds)
    return [SubRun(round_of(run, n), _STAGES, title=f"{run.system.title}, round {n}") for n in numbers]


def rounds(run: Run) -> None:
    """Says if there is none."""
    if run.config.sc_cam.rounds == 1:
        run.say("rounds: there is no other than this run's own")


def round_of(run: Run, number: int) -> Run:
    """Round `number`, counted from 1, of a run of several: the same settings with so many rounds.

    Its epochs are not evaluated: the next round takes the epoch that `sc_cam.handoff_epochs` names, not the
    best. Its CAMs are for comparison only, so it makes those that are scored and no others.
    """
    config = ConfigDict(run.config.to_dict())
    config.sc_cam.rounds = number
    config.eval.every_epochs = 0
    config.dataset.infer_split = config.dataset.eval_split
    return run.within(round_layout(run.layout, number), config)


def last_epoch(config: ConfigDict) -> int:
    """Epochs to train: those of `total_epochs` up to the one that is handed on."""
    return min(config.sc_cam.handoff_epochs[config.sc_cam.rounds - 1] + 1, config.total_epochs)


def round_before(run: Run) -> str:
    """Where the weights of the round before are; before the first, those of the ordinary classifier.

    Raises:
      RunError: they are not there yet, or have not reached the epoch that is handed on.
    """
    number = run.config.sc_cam.rounds - 1
    if number == 0:
        return classifier_path(run)
    folder = round_layout(run.layout, number).checkpoints(run.method.name)
    require(folder, f"weights of round {number}", "rounds")
    step = step_folder(folder)
    done, wanted = read_meta(step)["epochs"], last_epoch(round_of(run, number).config)
    if done < wanted:
        raise RunError(f"{folder} is trained for {done:g} of {wanted} epochs; run the stage rounds first")
    return str(step)


ROUNDS = Stage(
    name="rounds",
    function=rounds,
    inner=rounds_before,
    weights=lambda run: {"classifier_from": run.config.classifier_from},
)
