"""Bilinear resizing with PyTorch's arithmetic, for whole arrays and for images inside padded arrays.

Both are two products with an interpolation matrix, one per axis: exact, differentiable, and fast on any
backend.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

Size = TypeVar("Size", int, jax.Array)


def interpolation_matrix(
    n_in: int | jax.Array,
    n_out: int | jax.Array,
    rows: int,
    columns: int,
    *,
    align_corners: bool = False,
    scale: float | None = None,
) -> jax.Array:
    """Returns float32[rows, columns]: the weights that make `n_out` samples of `n_in` ones.

    Args:
      n_in: number of valid input samples, at most `columns`; may be traced.
      n_out: number of valid output samples, at most `rows`; may be traced.
      rows: static output length; rows from `n_out` on are zero.
      columns: static input length; columns from `n_in` on are zero.
      align_corners: False is the half-pixel convention (PyTorch's default), True lets end samples coincide.
      scale: by which positions are divided in the half-pixel convention, instead of n_out / n_in; see
        `rescale_valid`.
    """
    n_in, n_out = jnp.asarray(n_in, jnp.float32), jnp.asarray(n_out, jnp.float32)
    out = jnp.arange(rows, dtype=jnp.float32)
    if align_corners:
        source = out * ((n_in - 1) / jnp.maximum(n_out - 1, 1))
    else:
        source = (out + 0.5) * (n_in / n_out if scale is None else 1 / scale) - 0.5
    source = jnp.clip(source, 0, n_in - 1)
    low = jnp.floor(source)
    high = jnp.minimum(low + 1, n_in - 1)
    fraction = (source - low)[:, None]
    column = jnp.arange(columns, dtype=jnp.float32)[None]
    weights = (column == low[:, None]) * (1 - fraction) + (column == high[:, None]) * fraction
    return weights * (out < n_out)[:, None]


def resize_bilinear(x: jax.Array, size: tuple[int, int], *, align_corners: bool = False) -> jax.Array:
    """Resizes [B, h, w, C] to [B, H, W, C], size = (H, W), as `torch.nn.functional.interpolate` does."""
    (h, w), (H, W) = x.shape[1:3], size
    rows = interpolation_matrix(h, H, H, h, align_corners=align_corners).astype(x.dtype)
    columns = interpolation_matrix(w, W, W, w, align_corners=align_corners).astype(x.dtype)
    return jnp.einsum("Hh,bhwc,Ww->bHWc", rows, x, columns, precision="highest")


def resize_valid(
    x: jax.Array,
    sizes: jax.Array,
    new_sizes: jax.Array,
    shape: tuple[int, int],
    *,
    align_corners: bool = False,
) -> jax.Array:
    """Resizes the valid top-left part of each map to its own size.

    Args:
      x: [B, h, w, C]; only the first sizes[b] rows and columns of map b count.
      sizes: int32[B, 2], valid (height, width) of each input map.
      new_sizes: int32[B, 2], valid (height, width) of each output map.
      shape: static (H, W) that holds every output.
      align_corners: as in `interpolation_matrix`.

    Returns:
      [B, H, W, C], zero outside `new_sizes`.
    """

    def one(x: jax.Array, size: jax.Array, new_size: jax.Array) -> jax.Array:
        rows, columns = (
            interpolation_matrix(size[i], new_size[i], shape[i], x.shape[i], align_corners=align_corners)
            for i in (0, 1)
        )
        return _apply(rows, x, columns)

    return jax.vmap(one)(x, sizes, new_sizes)


def rescaled_size(size: Size, scale: float) -> Size:
    """floor(size * scale), of a side or of an array of sizes; at least 1."""
    if isinstance(size, int):
        return max(1, int(size * scale))
    return jnp.maximum(1, jnp.floor(size * scale).astype(jnp.int32))


def rescale_valid(x: jax.Array, sizes: jax.Array | None, scale: float) -> jax.Array:
    """Resizes as PyTorch does when it is given `scale_factor`: [B, h, w, C] -> [B, floor(h * scale), ..., C].

    Position i is (i + 0.5) / scale - 0.5 in the input, also where floor(h * scale) / h is less than the
    scale. (PyTorch before 1.6 took the ratio of the sizes.) With `sizes` int32[B, 2], the valid top-left part
    of each map, what lies outside `rescaled_size` of them is zero.
    """
    B, h, w = x.shape[:3]
    H, W = rescaled_size(h, scale), rescaled_size(w, scale)
    if sizes is None:
        sizes = jnp.tile(jnp.asarray([[h, w]]), (B, 1))

    def one(x: jax.Array, size: jax.Array, new_size: jax.Array) -> jax.Array:
        rows = interpolation_matrix(size[0], new_size[0], H, h, scale=scale)
        return _apply(rows, x, interpolation_matrix(size[1], new_size[1], W, w, scale=scale))

    return jax.vmap(one)(x, sizes, rescaled_size(sizes, scale))


def resize_twice(
    x: jax.Array,
    sizes: jax.Array,
    middle_sizes: jax.Array,
    new_sizes: jax.Array,
    middle_shape: tuple[int, int],
    shape: tuple[int, int],
) -> jax.Array:
    """Resizes with aligned corners to `middle_sizes` and from there by the half-pixel convention.

    One product for both, so that the maps never exist at the size between; arguments as in `resize_valid`.
    """

    def one(x: jax.Array, size: jax.Array, middle: jax.Array, new_size: jax.Array) -> jax.Array:
        def matrix(i: int) -> jax.Array:
            first = interpolation_matrix(size[i], middle[i], middle_shape[i], x.shape[i], align_corners=True)
            second = interpolation_matrix(middle[i], new_size[i], shape[i], middle_shape[i])
            return jnp.matmul(second, first, precision="highest")

        return _apply(matrix(0), x, matrix(1))

    return jax.vmap(one)(x, sizes, middle_sizes, new_sizes)


def resized_mean(x: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Mean of each channel as it would be after resizing with aligned corners: [B, h, w, C] -> [B, C].

    A weighted mean of what is there; arguments as in `resize_valid`.
    """

    def one(x: jax.Array, size: jax.Array, new_size: jax.Array) -> jax.Array:
        rows, columns = (
            interpolation_matrix(size[i], new_size[i], shape[i], x.shape[i], align_corners=True).sum(0)
            / new_size[i]
            for i in (0, 1)
        )
        return jnp.einsum("h,hwc,w->c", rows, x, columns, precision="highest")

    return jax.vmap(one)(x, sizes, new_sizes)


def _apply(rows: jax.Array, x: jax.Array, columns: jax.Array) -> jax.Array:
    """[H, h], [h, w, C], [W, w] -> [H, W, C]."""
    return jnp.einsum("Hh,hwc,Ww->HWc", rows, x, columns, precision="highest")
