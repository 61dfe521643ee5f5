"""Max pooling with PyTorch's arithmetic."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from wsss_jax.ops.valid import valid_mask, zero_outside

Size = TypeVar("Size", int, jax.Array)


def pooled_size(size: Size, window: int, stride: int, padding: int = 0, ceil: bool = False) -> Size:
    """Rows (or columns) that `max_pool` makes of `size`, which may be an array of sizes.

    With `ceil` a last window that is not full counts too, but (PyTorch's rule) not one that would start
    beyond the image, in the padding behind it.
    """
    free = size + 2 * padding - window
    if not ceil:
        return free // stride + 1
    count = -(-free // stride) + 1
    return count - ((count - 1) * stride >= size + padding)


def max_pool(
    x: jax.Array,
    window: int,
    stride: int,
    padding: int = 0,
    *,
    ceil: bool = False,
    sizes: jax.Array | None = None,
) -> jax.Array:
    """Maximum over square windows; what lies outside the image never is the maximum.

    Args:
      x: [B, H, W, C], of a floating type.
      window: side in pixels.
      stride: step in pixels.
      padding: pixels on every side, at most half a window.
      ceil: PyTorch's `ceil_mode`, see `pooled_size`.
      sizes: int32[B, 2] if the images lie inside padded arrays.

    Returns:
      [B, h, w, C] with h and w by `pooled_size`; with `sizes`, 0 outside their pooled sizes.
    """
    if 2 * padding > window:
        raise ValueError(f"padding {padding} is more than half of a window of {window}")
    if sizes is not None:
        x = jnp.where(valid_mask(sizes, *x.shape[1:3]), x, -jnp.inf)

    def around(size: int) -> tuple[int, int]:
        end = (pooled_size(size, window, stride, padding, ceil) - 1) * stride + window
        return padding, max(end - padding - size, 0)

    pads = [(0, 0), around(x.shape[1]), around(x.shape[2]), (0, 0)]
    pooled = lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)
    if sizes is None:
        return pooled
    return zero_outside(pooled, pooled_size(sizes, window, stride, padding, ceil))
