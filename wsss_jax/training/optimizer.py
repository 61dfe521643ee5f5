"""SGD and AdamW with PyTorch's arithmetic, each group of parameters at its own rate and weight decay."""

from collections.abc import Callable, Mapping
from typing import Any

import optax

from wsss_jax.training.schedules import polynomial

Groups = Mapping[str, tuple[float, float]]
"""Group -> (learning rate factor, weight decay factor).

At rate factor 0 parameters never change, and the optimiser keeps nothing for them (AFA's norms).
"""


def psa_groups(new_layers: float = 10.0) -> dict[str, tuple[float, float]]:
    """The groups of psa and of most systems on ResNet-38.

    Args:
      new_layers: how many times faster layers without pretrained weights learn.
    """
    return {
        "pretrained": (1, 1),
        "pretrained_bias": (2, 0),
        "new": (new_layers, 1),
        "new_bias": (2 * new_layers, 0),
    }


def sgd(
    labels: Mapping[Any, str],
    groups: Groups,
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """PyTorch's SGD: v = momentum * v + (gradient + decay * p), p = p - rate * v.

    Args:
      labels: group of each parameter, in the structure of the parameters.
      groups: factors of the rate and the weight decay.
      schedule: rate by step at rate factor 1.
      momentum: 0 to 1.
      weight_decay: at weight decay factor 1.
    """

    def group(rate: optax.Schedule, decay: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(decay), optax.trace(momentum), optax.scale_by_learning_rate(rate)
        )

    return _by_group(group, labels, groups, schedule, weight_decay)


def adamw(
    labels: Mapping[Any, str],
    groups: Groups,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """PyTorch's AdamW: p = p - rate * (m / (sqrt(v) + epsilon) + decay * p), the moments bias-corrected.

    Args:
      labels, groups, schedule, weight_decay: as for `sgd`.
      b1: decay of m, the mean of gradients.
      b2: decay of v, the mean of their squares.
      epsilon: added outside the root.
    """

    def group(rate: optax.Schedule, decay: float) -> optax.GradientTransformation:
        return optax.adamw(rate, b1, b2, epsilon, weight_decay=decay)

    return _by_group(group, labels, groups, schedule, weight_decay)


def polynomial_sgd(
    labels: Mapping[Any, str],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    power: float,
    max_step: int,
    new_layers: float = 10.0,
    every: int = 1,
) -> optax.GradientTransformation:
    """psa's optimiser: `sgd` with `psa_groups` and a polynomial decay.

    Args:
      labels: group of each parameter, in the structure of the parameters.
      learning_rate: of the pretrained weights at step 0.
      momentum: 5e-4 in the published runs. The references hand weight decay's value to SGD's momentum
        argument, so the momentum that made the published numbers is 5e-4 (1e-4 in WaveCAM) and not 0.9.
      weight_decay: of weights; biases have none.
      power: of the polynomial decay (0.9).
      max_step: floor(images / batch size) * epochs.
      new_layers: learning rate factor of layers without pretrained weights.
      every: steps for which a rate stays.
    """
    schedule = polynomial(learning_rate, max_step, power, every)
    return sgd(labels, psa_groups(new_layers), schedule, momentum=momentum, weight_decay=weight_decay)


def _by_group(
    make: Callable[[optax.Schedule, float], optax.GradientTransformation],
    labels: Mapping[Any, str],
    groups: Groups,
    schedule: optax.Schedule,
    weight_decay: float,
) -> optax.GradientTransformation:
    """Each group's own optimiser, made from its rate by step and its weight decay."""

    def group(rate: float, decay: float) -> optax.GradientTransformation:
        if rate == 0:
            return optax.set_to_zero()
        return make(lambda step: rate * schedule(step), decay * weight_decay)

    return optax.multi_transform({name: group(*factors) for name, factors in groups.items()}, dict(labels))
