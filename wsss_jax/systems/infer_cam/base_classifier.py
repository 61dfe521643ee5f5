"""What InferCam starts from and is compared with: a classifier's plain maps, as a run within the run."""

from pathlib import Path

import numpy as np

from wsss_jax.errors import ConfigError
from wsss_jax.runs.context import Run, open_run, require
from wsss_jax.stages.classifier import classifier_config
from wsss_jax.stages.evaluate import eval_cam, read_cam


def baseline_run(run: Run) -> Run:
    """The run in the run's folder `classifier`; with `classifier_from`, it uses those weights.

    Raises:
      ConfigError: no weights are named for a network that is not trained here.
    """
    config, network = classifier_config(run.config), run.config.infer_cam.network
    config.method = network
    config.dataset.infer_split = run.config.dataset.infer_split  # InferCam starts from all of its maps
    if run.config.classifier_from:
        config.cam.checkpoint = run.config.classifier_from
    elif network != "cam":
        raise ConfigError(
            f"config.infer_cam.network={network!r}: only cam is trained on the way; "
            "give the weights, a run or a published file, by --config.classifier_from=..."
        )
    return open_run(config, run.layout.classifier)


def baseline(run: Run) -> None:
    """Stage `classifier`: trains one unless `classifier_from` names one, and computes its maps."""
    from wsss_jax.runs.runner import run_opened

    stages = ("infer_cam",) if run.config.classifier_from else ("train", "infer_cam")
    run_opened(baseline_run(run), stages)


def eval_both(run: Run) -> None:
    """Stage `eval_cam`: scores of the plain maps and of InferCam's."""
    eval_cam(baseline_run(run))
    eval_cam(run)


def require_plain_maps(base: Run) -> None:
    """RunError if the stage `classifier` has not run."""
    folder = base.layout.cams(base.config.dataset.infer_split)
    require(folder / "settings.json", "plain maps", "classifier")


def plain_maps(base: Run, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes int32[K] and maps float32[K, H, W] of a picture; RunError if there is no sound file."""
    path: Path = base.layout.cam(base.config.dataset.infer_split, image_id)
    return read_cam(path, image_id, stage="classifier")
