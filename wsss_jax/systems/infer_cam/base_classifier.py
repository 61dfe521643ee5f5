"""What InferCam starts from and is compared with: a classifier's initial CAMs, as a run within the run."""

import dataclasses
from collections.abc import Sequence

from wsss_jax.data.class_maps import ClassMaps, read_maps
from wsss_jax.errors import ConfigError
from wsss_jax.runs.context import Run, SubRun, require
from wsss_jax.runs.layout import Layout
from wsss_jax.stages.evaluate import EVAL_CAM
from wsss_jax.systems.cam.classifier import CLASSIFIER, classifier_config


def base_run(run: Run) -> Run:
    """The run in the run's folder `classifier`; with `classifier_from`, it uses those weights.

    Raises:
      ConfigError: no weights are named for a network that is not trained here.
    """
    config, network = classifier_config(run.config), run.config.infer_cam.network
    trained = config.method
    config.method = network
    config.dataset.infer_split = run.config.dataset.infer_split  # InferCam starts from all of its maps
    if run.config.classifier_from:
        config.cam.checkpoint = run.config.classifier_from
    elif network != trained:
        raise ConfigError(
            f"config.infer_cam.network={network!r}: only {trained} is trained on the way; "
            "give the weights, a run or a published file, by --config.classifier_from=..."
        )
    return run.within(Layout(run.layout.classifier), config)


def base_runs(run: Run) -> Sequence[SubRun]:
    """Trains a classifier unless `classifier_from` names one, and computes its maps."""
    stages = ("infer_cam",) if run.config.classifier_from else ("train", "infer_cam")
    return (SubRun(base_run(run), stages, section="classifier"),)


BASE_CLASSIFIER = dataclasses.replace(CLASSIFIER, inner=base_runs)
# Stage `eval_cam`: scores of the initial CAMs, too.
EVAL_BOTH = dataclasses.replace(
    EVAL_CAM, inner=lambda run: (SubRun(base_run(run), (EVAL_CAM.name,), section="classifier"),)
)


def require_initial_cams(base: Run) -> None:
    """RunError if the stage `classifier` has not run."""
    folder = base.layout.cams(base.config.dataset.infer_split)
    require(folder / "settings.json", "initial CAMs", "classifier")


def initial_cams(base: Run, image_id: str) -> ClassMaps:
    """The maps of an image; DataError if there is no sound file."""
    path = base.layout.cam(base.config.dataset.infer_split, image_id)
    return read_maps(path, image_id, base.source.size(image_id), stage="classifier")
