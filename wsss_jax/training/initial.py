"""Variables before the first step: shapes, fresh weights, and batch norms measured on data."""

from typing import Any

import jax

from wsss_jax.models.norms import CALIBRATION
from wsss_jax.task import Variables, inputs_of


def variable_shapes(network: Any) -> Variables:
    """Names, shapes and types of a flax module's variables, without computing any."""
    return jax.eval_shape(network.init, jax.random.key(0), *inputs_of(network))


def fresh_variables(network: Any, seed: int) -> Variables:
    """Initial variables with PyTorch's distributions; batch norms are the identity."""
    return jax.jit(network.init)(jax.random.key(seed), *inputs_of(network))


def calibrate(network: Any, variables: Variables, images: Any, boxes: Any) -> Variables:
    """Sets the statistics of all batch norms to those of one batch.

    The published networks freeze batch norms at ImageNet's statistics. Without pretrained weights there are
    none, and with the identity instead activations shrink by a factor of about 2.5 in each block that
    changes the number of channels. Measuring them once, layer by layer in one pass, gives a from-scratch
    network activations of unit size, while the layers stay frozen, as in the published recipe (the idea of
    D. Mishkin, J. Matas: "All You Need Is a Good Init", ICLR 2016).

    Args:
      network: a flax module called with images.
      variables: of the network.
      images: uint8[B, H, W, 3] crops.
      boxes: int32[B, 4], see `Preprocess.crops`.
    """

    def measure(variables: Variables, images: jax.Array, boxes: jax.Array) -> Variables:
        inputs = network.preprocess.crops(images, boxes)
        _, measured = network.apply(variables, inputs, mutable=["batch_stats", CALIBRATION])
        return {**variables, **measured}

    return jax.jit(measure)(variables, images, boxes)
