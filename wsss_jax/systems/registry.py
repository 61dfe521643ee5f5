"""How a system is made from a configuration."""

from typing import Any, cast

import jax.numpy as jnp
from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError
from wsss_jax.method import Method
from wsss_jax.models.classifier import Classifier
from wsss_jax.systems import TITLES
from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.affinity.task import Affinity
from wsss_jax.systems.cam.task import Cam
from wsss_jax.systems.cpn.network import CpnNetwork
from wsss_jax.systems.cpn.task import Cpn
from wsss_jax.systems.cse.task import Cse
from wsss_jax.systems.infer_cam.crops import SplitRule
from wsss_jax.systems.infer_cam.iterations import ErasingRule
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.systems.sc_cam.network import PooledFeatures, SubcategoryClassifier
from wsss_jax.systems.sc_cam.task import ScCam
from wsss_jax.systems.seam.network import SeamNetwork
from wsss_jax.systems.seam.rule import Seam


def make_method(config: ConfigDict, num_classes: int) -> Method:
    """Builds the method that `config.method` names, for `num_classes` foreground classes.

    Raises:
      ConfigError: there is no such method.
    """
    frozen = tuple(config.model.frozen_blocks)
    if config.method == "cam":
        return Cam(network=_classifier(config, num_classes, config.model.head_dropout), frozen_blocks=frozen)
    if config.method == "cse":
        return Cse(
            er=_classifier(config, num_classes, 0.0),
            cl=_classifier(config, num_classes, 0.0),
            frozen_blocks=frozen,
            erased_weight=config.cse.erased_weight,
            erased_weight_per_epoch=config.cse.erased_weight_per_epoch,
        )
    if config.method == "sc_cam":
        return _sc_cam(config, num_classes)
    if config.method == "cpn":
        dropout = config.model.head_dropout
        network = CpnNetwork(
            num_classes,
            head_dropout=dropout,
            branch_width=config.cpn.branch_width,
            **network_options(config),
        )
        return Cpn(network=network, frozen_blocks=frozen, hard_share=config.cpn.hard_share)
    if config.method == "infer_cam":
        return _infer_cam(config, num_classes)
    if config.method == "seam":
        return Seam(network=SeamNetwork(num_classes, **network_options(config)))
    if config.method == "affinity":  # makes no CAMs, and has no stage that asks it to
        return cast(Method, affinity_net(config))
    raise ConfigError(f"config.method={config.method!r}: must be one of {', '.join(TITLES)}")


def _classifier(config: ConfigDict, num_classes: int, head_dropout: float) -> Classifier:
    return Classifier(num_classes, head_dropout=head_dropout, **network_options(config))


def _sc_cam(config: ConfigDict, num_classes: int) -> ScCam:
    children = num_classes * config.sc_cam.k
    dropout = config.model.head_dropout
    return ScCam(
        network=SubcategoryClassifier(num_classes, children, head_dropout=dropout, **network_options(config)),
        frozen_blocks=tuple(config.model.frozen_blocks),
        sub_weight=config.sc_cam.sub_weight,
        maps=config.sc_cam.maps,
    )


def _infer_cam(config: ConfigDict, num_classes: int) -> InferCam:
    base, settings = ConfigDict(config.to_dict()), config.infer_cam
    base.method = settings.network
    one_class, two_classes = settings.margins
    return InferCam(
        base=make_method(base, num_classes),
        split=SplitRule(one_class=one_class, two_classes=two_classes, wrap=settings.wrap),
        erasing=ErasingRule(rounds=settings.rounds, erase_from=settings.erase_from, enough=settings.enough),
    )


def affinity_net(config: ConfigDict) -> Affinity:
    """AffinityNet on the trunk that section `model` describes, for whatever method made the CAMs."""
    network = AffinityNet(**network_options(config))
    frozen = tuple(config.model.frozen_blocks)
    return Affinity(network=network, frozen_blocks=frozen, radius=config.affinity.radius)


def pooled_features(config: ConfigDict) -> PooledFeatures:
    """The network whose output SC-CAM clusters: the trunk that section `model` describes."""
    return PooledFeatures(**network_options(config))


def network_options(config: ConfigDict) -> dict[str, Any]:
    """What section `model` and `precision` say of every ResNet-38."""
    return {
        "width": config.model.width,
        "blocks": tuple(config.model.blocks),
        "dilations": tuple(config.model.dilations),
        "trunk_dropout": tuple(config.model.trunk_dropout),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32,
    }
