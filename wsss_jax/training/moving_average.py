"""Exponential moving average of weights."""

from typing import TypeVar

import jax.typing
import optax

Weights = TypeVar("Weights")


def moving_average(average: Weights, weights: Weights, decay: jax.typing.ArrayLike) -> Weights:
    """One step: decay * average + (1 - decay) * weights, leaf by leaf.

    Args:
      average: of the weights so far; start with the weights themselves.
      weights: after the optimiser's step, in the same structure.
      decay: 0 (no average) to 1, 0.999 say.
    """
    return optax.incremental_update(weights, average, 1 - decay)
