"""2-D convolution with PyTorch's arithmetic."""

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] | None = None,
    groups: int = 1,
) -> jax.Array:
    """Convolves with equal zero padding on opposite sides, as PyTorch does; never XLA's `SAME`.

    `SAME` pads unevenly at stride 2, which shifts every feature of a network trained in PyTorch by a pixel.

    Args:
      x: [B, H, W, Cin].
      kernel: [kh, kw, Cin / groups, Cout].
      stride: step in pixels.
      dilation: distance between the kernel's taps in pixels.
      padding: (rows above and below, columns left and right); by default dilation * (k // 2), with which the
        output of an odd kernel has ceil(H / stride) rows.
      groups: output channels i * Cout / groups and following see only input channels i * Cin / groups and
        following.

    Returns:
      [B, h, w, Cout] with h = floor((H + 2 * rows - dilation * (kh - 1) - 1) / stride) + 1, w likewise.
    """
    kh, kw = kernel.shape[:2]
    rows, columns = (dilation * (kh // 2), dilation * (kw // 2)) if padding is None else padding
    if (kh, kw, rows, columns, groups) == (1, 1, 0, 0, 1):
        # A matrix product, whose gradients XLA's CPU backend computes faster than a convolution's; see
        # docs/benchmarks.md.
        return jnp.einsum("bhwi,io->bhwo", x[:, ::stride, ::stride], kernel[0, 0])
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(rows, rows), (columns, columns)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )
