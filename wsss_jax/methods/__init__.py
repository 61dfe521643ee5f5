"""The systems, and how one is made from a configuration."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError
from wsss_jax.method import Method
from wsss_jax.methods.cam import Cam
from wsss_jax.methods.cse import Cse
from wsss_jax.models.classifier import Classifier

# What reports call the methods of `config.method`.
TITLES = {"cam": "ordinary classifier", "cse": "OC-CSE"}


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
    raise ConfigError(f"config.method={config.method!r}: must be one of {', '.join(TITLES)}")


def _classifier(config: ConfigDict, num_classes: int, head_dropout: float) -> Classifier:
    model: dict[str, Any] = {
        "width": config.model.width,
        "blocks": tuple(config.model.blocks),
        "dilations": tuple(config.model.dilations),
        "trunk_dropout": tuple(config.model.trunk_dropout),
        "weight_gradient": weight_gradient(config.cpu_weight_gradient),
        "dtype": jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32,
    }
    return Classifier(num_classes, head_dropout=head_dropout, **model)


def weight_gradient(choice: str) -> str:
    """'auto' is one product per tap on CPU devices, where XLA's own gradient is slow, and XLA's own
    elsewhere."""
    if choice == "auto":
        return "taps" if jax.default_backend() == "cpu" else "stock"
    return choice
