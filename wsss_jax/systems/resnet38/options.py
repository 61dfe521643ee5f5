"""From a configuration to networks on ResNet-38, and from weights back to the sizes in a configuration."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from wsss_jax import weights
from wsss_jax.models.classifier import Classifier
from wsss_jax.weights.mapping import flatten

_PUBLISHED_CONV1A = 64  # channels


def network_options(config: ConfigDict) -> dict[str, Any]:
    """What section `model` and `precision` say of every ResNet-38."""
    return {
        "width": config.model.width,
        "blocks": tuple(config.model.blocks),
        "dilations": tuple(config.model.dilations),
        "trunk_dropout": tuple(config.model.trunk_dropout),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32,
    }


def classifier(config: ConfigDict, num_classes: int, head_dropout: float) -> Classifier:
    """The ordinary classifier."""
    return Classifier(num_classes, head_dropout=head_dropout, **network_options(config))


def set_trunk(config: ConfigDict, params: Mapping[str, Any]) -> None:
    """Sets width and blocks in a configuration by the parameters of a network."""
    config.model.width = channels(params, "trunk", "conv1a") / _PUBLISHED_CONV1A
    config.model.blocks = weights.trunk_blocks("/".join(("params", *path)) for path, _ in flatten(params))


def set_classifier(config: ConfigDict, params: Mapping[str, Any], background: bool = False) -> int:
    """Sets the sizes of a classifier, perhaps with a row for background; returns its number of classes."""
    set_trunk(config, params)
    return channels(params, "fc8") - background


def channels(params: Mapping[str, Any], *path: str) -> int:
    """Output channels of a convolution."""
    for name in path:
        params = params[name]
    return params["kernel"].shape[-1]
