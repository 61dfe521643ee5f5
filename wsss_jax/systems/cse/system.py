"""What `cse` consists of."""

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.systems.cam.classifier import CLASSIFIER
from wsss_jax.systems.cse.task import Cse
from wsss_jax.systems.resnet38.options import classifier, set_classifier


def make(config: ConfigDict, num_classes: int) -> Cse:
    """The networks of section `model`, and the loss of section `cse`."""
    return Cse(
        er=classifier(config, num_classes, 0.0),
        cl=classifier(config, num_classes, 0.0),
        frozen_blocks=tuple(config.model.frozen_blocks),
        erased_weight=config.cse.erased_weight,
        erased_weight_per_epoch=config.cse.erased_weight_per_epoch,
    )


SYSTEM = System(
    name="cse",
    title="OC-CSE",
    make=make,
    stages=(CLASSIFIER, *TRAIN_STAGES),
    published={"cse_net_er": set_classifier},
)
