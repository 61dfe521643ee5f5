"""Stage `rounds`: SC-CAM's rounds before the last, as runs within the run; the last one is the run itself."""

import dataclasses

from ml_collections import ConfigDict

from wsss_jax.errors import RunError
from wsss_jax.runs.context import Run, require
from wsss_jax.stages.networks import classifier_path, step_folder
from wsss_jax.training.checkpoints import read_meta

_STAGES = ("features", "cluster", "train", "infer_cam", "eval_cam")


def rounds(run: Run) -> None:
    """Runs each round before the last in its own folder; every one goes on where it was."""
    from wsss_jax.runs.runner import run_opened

    if run.config.sc_cam.rounds == 1:
        return run.say("rounds: there is no other than this run's own")
    for number in range(1, run.config.sc_cam.rounds):
        run_opened(round_of(run, number), _STAGES)


def round_of(run: Run, number: int) -> Run:
    """Round `number`, counted from 1, of a run of several: the same settings with so many rounds.

    It is not opened by itself, since the outer run's config.json holds all its settings. Its epochs are not
    evaluated: the next round takes the epoch that `sc_cam.hand_on` names, not the best. Its CAMs are for
    comparison only, so it makes those that are scored and no others.
    """
    config = ConfigDict(run.config.to_dict())
    config.sc_cam.rounds = number
    config.eval.every_epochs = 0
    config.dataset.infer_split = config.dataset.eval_split
    return dataclasses.replace(run, config=config, layout=run.layout.round(number))


def last_epoch(config: ConfigDict) -> int:
    """Epochs to train: all of `total_epochs`, but in SC-CAM only those up to the one that is handed on."""
    if config.method != "sc_cam":
        return config.total_epochs
    return min(config.sc_cam.hand_on[config.sc_cam.rounds - 1] + 1, config.total_epochs)


def round_before(run: Run) -> str:
    """Where the weights of the round before are; before the first, those of the ordinary classifier.

    Raises:
      RunError: they are not there yet, or have not reached the epoch that is handed on.
    """
    number = run.config.sc_cam.rounds - 1
    if number == 0:
        return classifier_path(run)
    folder = run.layout.round(number).checkpoints(run.method.trained)
    require(folder, f"weights of round {number}", "rounds")
    step = step_folder(folder)
    done, wanted = read_meta(step)["epochs"], last_epoch(round_of(run, number).config)
    if done < wanted:
        raise RunError(f"{folder} is trained for {done:g} of {wanted} epochs; run the stage rounds first")
    return str(step)
