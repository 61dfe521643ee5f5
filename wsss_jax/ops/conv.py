"""2-D convolution with PyTorch's arithmetic, and a weight gradient that XLA's CPU backend computes fast."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

WeightGradient = Literal["stock", "taps"]
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    weight_gradient: WeightGradient = "stock",
) -> jax.Array:
    """Convolves with zero padding of dilation * (k // 2), as PyTorch does; never XLA's `SAME`.

    `SAME` pads unevenly at stride 2, which shifts every feature of a network trained in PyTorch by a pixel.

    Args:
      x: [B, H, W, Cin].
      kernel: [k, k, Cin, Cout], k odd.
      stride: step in pixels; the output has ceil(H / stride) rows.
      dilation: distance between the kernel's taps in pixels.
      weight_gradient: 'taps' computes the kernel's gradient as one matrix product per tap. XLA's CPU backend
        computes its own form slowly for wide layers; for narrow ones there is nothing to gain, see
        docs/benchmarks.md. On other backends use 'stock'.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), Cout].
    """
    if weight_gradient == "taps":
        return _conv2d_taps(x, kernel, stride, dilation)
    return _conv2d(x, kernel, stride, dilation)


def _conv2d(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d_taps(x: jax.Array, kernel: jax.Array, stride: int, dilation: int) -> jax.Array:
    return _conv2d(x, kernel, stride, dilation)


def _taps_forward(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv2d(x, kernel, stride, dilation), (x, kernel)


def _taps_backward(
    stride: int, dilation: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    _, input_vjp = jax.vjp(lambda x: _conv2d(x, kernel, stride, dilation), x)
    return input_vjp(grad)[0], _weight_gradient(x, grad, kernel.shape[0], stride, dilation).astype(
        kernel.dtype
    )


_conv2d_taps.defvjp(_taps_forward, _taps_backward)


def _weight_gradient(x: jax.Array, grad: jax.Array, k: int, stride: int, dilation: int) -> jax.Array:
    """dL/dkernel [k, k, Cin, Cout]: for each tap, the input shifted by it times the output's gradient."""
    pad = dilation * (k // 2)
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, cols = ((n - 1) * stride + 1 for n in grad.shape[1:3])

    def tap(i: int, j: int) -> jax.Array:
        top, left = i * dilation, j * dilation
        shifted = x[:, top : top + rows : stride, left : left + cols : stride]
        return jnp.einsum("bhwi,bhwo->io", shifted, grad)

    return jnp.stack([jnp.stack([tap(i, j) for j in range(k)]) for i in range(k)])
