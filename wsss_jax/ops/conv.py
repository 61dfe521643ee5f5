"""2-D convolution with PyTorch's arithmetic."""

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(x: jax.Array, kernel: jax.Array, *, stride: int = 1, dilation: int = 1) -> jax.Array:
    """Convolves with zero padding of dilation * (k // 2), as PyTorch does; never XLA's `SAME`.

    `SAME` pads unevenly at stride 2, which shifts every feature of a network trained in PyTorch by a pixel.

    Args:
      x: [B, H, W, Cin].
      kernel: [k, k, Cin, Cout], k odd.
      stride: step in pixels; the output has ceil(H / stride) rows.
      dilation: distance between the kernel's taps in pixels.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), Cout].
    """
    if kernel.shape[:2] == (1, 1):
        # A matrix product, whose gradients XLA's CPU backend computes faster than a convolution's; see
        # docs/benchmarks.md.
        return jnp.einsum("bhwi,io->bhwo", x[:, ::stride, ::stride], kernel[0, 0])
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )
