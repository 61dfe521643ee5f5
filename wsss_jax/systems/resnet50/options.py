"""From a configuration to networks on ResNet-50, and from weights back to the sizes in a configuration."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from wsss_jax import weights
from wsss_jax.weights.mapping import flatten

_PUBLISHED_CONV1 = 64  # channels


def network_options(config: ConfigDict) -> dict[str, Any]:
    """What section `resnet50` and `precision` say of every ResNet-50."""
    return {
        "width": config.resnet50.width,
        "blocks": tuple(config.resnet50.blocks),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32,
    }


def set_classifier(config: ConfigDict, params: Mapping[str, Any]) -> int:
    """Sets the sizes of a classifier in a configuration; returns its number of classes."""
    config.resnet50.width = params["trunk"]["conv1"]["kernel"].shape[-1] / _PUBLISHED_CONV1
    config.resnet50.blocks = weights.trunk_blocks("/".join(("params", *path)) for path, _ in flatten(params))
    return params["classifier"]["kernel"].shape[-1]
