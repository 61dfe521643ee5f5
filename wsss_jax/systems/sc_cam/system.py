"""What `sc_cam` consists of."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.data.loader import ClassificationSample
from wsss_jax.runs.context import Run, System
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.stages.samples import recipe
from wsss_jax.systems.cam.classifier import CLASSIFIER
from wsss_jax.systems.resnet38.options import channels, network_options, set_trunk
from wsss_jax.systems.sc_cam.cluster import CLUSTER
from wsss_jax.systems.sc_cam.features import FEATURES
from wsss_jax.systems.sc_cam.network import SubcategoryClassifier
from wsss_jax.systems.sc_cam.rounds import ROUNDS, last_epoch
from wsss_jax.systems.sc_cam.subcategories import sub_label_vectors
from wsss_jax.systems.sc_cam.task import ScCam


def make(config: ConfigDict, num_classes: int) -> ScCam:
    """The network of section `model`, and the loss of section `sc_cam`."""
    subcategories = num_classes * config.sc_cam.k
    dropout = config.model.head_dropout
    return ScCam(
        network=SubcategoryClassifier(
            num_classes, subcategories, head_dropout=dropout, **network_options(config)
        ),
        frozen_blocks=tuple(config.model.frozen_blocks),
        sub_weight=config.sc_cam.sub_weight,
        maps=config.sc_cam.maps,
    )


def sample(run: Run, ids: Sequence[str]) -> ClassificationSample:
    """Crops with the images' subcategories, too."""
    return ClassificationSample(run.source, recipe(run.config), sub_label_vectors(run, ids))


def set_sizes(config: ConfigDict, params: Mapping[str, Any]) -> int:
    """Sets the sizes of the network in a configuration; returns its number of classes."""
    set_trunk(config, params)
    count = channels(params, "fc8_20")
    config.sc_cam.k = max(1, channels(params, "fc8_200") // max(1, count))
    return count


SYSTEM = System(
    name="sc_cam",
    title="SC-CAM",
    make=make,
    stages=(CLASSIFIER, ROUNDS, FEATURES, CLUSTER, *TRAIN_STAGES),
    sample=sample,
    epochs=last_epoch,
    map_settings=("sc_cam.maps", "cam.binarised_npy"),
    published={"sccam_k10": set_sizes},
)
