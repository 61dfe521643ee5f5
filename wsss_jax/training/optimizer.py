"""SGD with polynomial decay and the learning rate groups of psa, which most of the five systems use."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax


def groups(new_layers: float = 10.0) -> dict[str, tuple[float, float]]:
    """Group -> (learning rate factor, weight decay factor), as psa groups its parameters.

    Args:
      new_layers: how many times faster layers without pretrained weights learn.
    """
    return {
        "pretrained": (1, 1),
        "pretrained_bias": (2, 0),
        "new": (new_layers, 1),
        "new_bias": (2 * new_layers, 0),
    }


def polynomial_schedule(learning_rate: float, max_step: int, power: float) -> optax.Schedule:
    """learning_rate * (1 - step / max_step) ** power; from max_step on, the last step's rate stays."""

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        done = jnp.minimum(step, max_step - 1) / max_step
        return learning_rate * (1 - done) ** power

    return schedule


def polynomial_sgd(
    labels: Mapping[Any, str],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    power: float,
    max_step: int,
    new_layers: float = 10.0,
) -> optax.GradientTransformation:
    """PyTorch's SGD, v = momentum * v + (grad + decay * p), p = p - rate * v, per group of `groups`.

    Args:
      labels: group of each parameter, in the structure of the parameters.
      learning_rate: of the pretrained weights at step 0.
      momentum: 5e-4 in the published runs. The references hand weight decay's value to SGD's momentum
        argument, so the momentum that made the published numbers is 5e-4 (1e-4 in WaveCAM) and not 0.9.
      weight_decay: of weights; biases have none.
      power: of the polynomial decay (0.9).
      max_step: floor(images / batch size) * epochs.
      new_layers: learning rate factor of layers without pretrained weights.
    """

    def group(rate: float, decay: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(decay * weight_decay),
            optax.trace(momentum),
            optax.scale_by_learning_rate(polynomial_schedule(rate * learning_rate, max_step, power)),
        )

    return optax.multi_transform(
        {name: group(*factors) for name, factors in groups(new_layers).items()}, dict(labels)
    )
