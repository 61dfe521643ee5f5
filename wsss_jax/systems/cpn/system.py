"""What `cpn` consists of."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.runs.context import Run, System
from wsss_jax.settings import made_of
from wsss_jax.stages.common import TRAIN_STAGES
from wsss_jax.stages.samples import crops
from wsss_jax.systems.cam.classifier import CLASSIFIER
from wsss_jax.systems.cpn.network import CpnNetwork
from wsss_jax.systems.cpn.patches import PatchSample
from wsss_jax.systems.cpn.settings import PatchRule
from wsss_jax.systems.cpn.task import Cpn
from wsss_jax.systems.resnet38.options import channels, network_options, set_classifier

_PUBLISHED_F9 = 192  # channels


def make(config: ConfigDict, num_classes: int) -> Cpn:
    """The network of section `model`, and branch and loss of section `cpn`."""
    network = CpnNetwork(
        num_classes,
        head_dropout=config.model.head_dropout,
        branch_width=config.cpn.branch_width,
        **network_options(config),
    )
    frozen = tuple(config.model.frozen_blocks)
    return Cpn(network=network, frozen_blocks=frozen, hard_share=config.cpn.hard_share)


def sample(run: Run, ids: Sequence[str]) -> PatchSample:
    """Crops, and which of their patches are hidden."""
    return PatchSample(crops(run, ids), made_of(PatchRule, run.config.cpn))


def set_sizes(config: ConfigDict, params: Mapping[str, Any]) -> int:
    """Sets the sizes of the network in a configuration; returns its number of classes."""
    config.cpn.branch_width = channels(params, "f9") / _PUBLISHED_F9
    return set_classifier(config, params, background=True)


SYSTEM = System(
    name="cpn",
    title="CPN",
    make=make,
    stages=(CLASSIFIER, *TRAIN_STAGES),
    sample=sample,
    published={"cpn": set_sizes},
)
