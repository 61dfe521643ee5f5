"""From a configuration to AffinityNet."""

from ml_collections import ConfigDict

from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.affinity.task import Affinity
from wsss_jax.systems.resnet38.options import network_options


def affinity_net(config: ConfigDict) -> Affinity:
    """AffinityNet on the trunk that section `model` describes, for whatever system made the CAMs."""
    network = AffinityNet(**network_options(config))
    frozen = tuple(config.model.frozen_blocks)
    return Affinity(network=network, frozen_blocks=frozen, radius=config.affinity.radius)
