"""What `seam` consists of."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.runs.context import System
from wsss_jax.stages.evaluate import EVAL_CAM
from wsss_jax.stages.infer import INFER_CAM
from wsss_jax.stages.report import REPORT
from wsss_jax.systems.resnet38.options import channels, network_options, set_trunk
from wsss_jax.systems.seam.network import SeamNetwork
from wsss_jax.systems.seam.rule import Seam


def make(config: ConfigDict, num_classes: int) -> Seam:
    """The network of section `model`."""
    return Seam(network=SeamNetwork(num_classes, **network_options(config)))


def set_sizes(config: ConfigDict, params: Mapping[str, Any]) -> int:
    """Sets the sizes of the network in a configuration; returns its number of classes."""
    set_trunk(config, params)
    return channels(params, "fc8") - 1  # background


SYSTEM = System(
    name="seam",
    title="SEAM's network",
    make=make,
    stages=(INFER_CAM, EVAL_CAM, REPORT),
    published={"infercam_seam": set_sizes},
)
