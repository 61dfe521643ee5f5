"""What `cam` consists of."""

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.systems.cam.task import Cam
from wsss_jax.systems.resnet38.options import classifier, set_classifier


def make(config: ConfigDict, num_classes: int) -> Cam:
    """The classifier of section `model`."""
    network = classifier(config, num_classes, config.model.head_dropout)
    return Cam(network=network, frozen_blocks=tuple(config.model.frozen_blocks))


SYSTEM = System(
    name="cam",
    title="ordinary classifier",
    make=make,
    stages=TRAIN_STAGES,
    published={"resnet38_cls": set_classifier},
)
