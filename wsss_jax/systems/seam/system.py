"""What `seam` consists of."""

import functools

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.stages.common import MAP_STAGES
from wsss_jax.systems.resnet38.options import network_options, set_classifier
from wsss_jax.systems.seam.network import SeamNetwork
from wsss_jax.systems.seam.rule import Seam


def make(config: ConfigDict, num_classes: int) -> Seam:
    """The network of section `model`."""
    return Seam(network=SeamNetwork(num_classes, **network_options(config)))


SYSTEM = System(
    name="seam",
    title="SEAM's network",
    make=make,
    stages=MAP_STAGES,
    published={"infercam_seam": functools.partial(set_classifier, background=True)},
)
