"""What `resnet50_cam` consists of."""

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.systems.resnet50.network import Classifier50
from wsss_jax.systems.resnet50.options import network_options, set_classifier
from wsss_jax.systems.resnet50_cam.task import ResNet50Cam


def make(config: ConfigDict, num_classes: int) -> ResNet50Cam:
    """The classifier of section `resnet50`."""
    network = Classifier50(num_classes, **network_options(config))
    return ResNet50Cam(network=network, frozen=tuple(config.resnet50.frozen))


SYSTEM = System(
    name="resnet50_cam",
    title="classifier on ResNet-50",
    make=make,
    stages=TRAIN_STAGES,
    published={"resnet50_cam": set_classifier},
)
