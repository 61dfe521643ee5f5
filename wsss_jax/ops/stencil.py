"""Symmetric sparse matrices between the pixels of a grid and their neighbours: affinities and random walks.

A pair of pixels is stored once, as an offset (dy, dx) that points down, or right within a row: plane i of
`half`, float32[B, N, H, W], holds at (y, x) the affinity of (y, x) and (y + dy, x + dx), 0 where there is no
such pair. That is N numbers a pixel (34 at radius 5) in place of H W. Images inside padded arrays lie at
the top left, and `sizes` is int32[B, 2] as in `ops.valid`: padding has no pairs, so it changes nothing.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from wsss_jax.ops.valid import valid_mask

Offset = tuple[int, int]
Offsets = tuple[Offset, ...]


def half_offsets(radius: int) -> Offsets:
    """The offsets (dy, dx) nearer than `radius`, one of each opposite two, in psa's and IRN's order."""
    reach = radius - 1
    within_row = [(0, dx) for dx in range(1, radius)]
    below = [(dy, dx) for dy in range(1, radius) for dx in range(-reach, radius)]
    return tuple(within_row + [(dy, dx) for dy, dx in below if dy * dy + dx * dx < radius * radius])


def path_positions(offset: Offset) -> Offsets:
    """The positions nearer than 1 to the line from (0, 0) to `offset`, inside their bounding box, ends
    included (IRN's PathIndex)."""
    dy, dx = offset
    rows, columns = range(min(0, dy), max(0, dy) + 1), range(min(0, dx), max(0, dx) + 1)
    return tuple((y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < dy * dy + dx * dx)


def reach_of(offsets: Sequence[Offset]) -> int:
    """The largest step of the offsets along an axis, in pixels."""
    return max(max(abs(dy), abs(dx)) for dy, dx in offsets)


def shifted(x: jax.Array, offsets: Sequence[Offset], fill: float = 0) -> jax.Array:
    """What lies each offset away from every position: [B, H, W] -> [B, N, H, W], `fill` outside."""
    (H, W), reach = x.shape[1:], reach_of(offsets)
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach)), constant_values=fill)
    views = [padded[:, reach + dy :, reach + dx :][:, :H, :W] for dy, dx in offsets]
    return jnp.stack(views, axis=1)


def pairs(offsets: Offsets, sizes: jax.Array, shape: tuple[int, int], *, crop: int = 0) -> jax.Array:
    """Which pairs exist: both ends inside the image, the first one also `crop` from its edges but the top.

    psa starts pairs only in the grid without its last `radius - 1` rows and without as many columns on each
    side, from where every offset stays inside; border positions then have few pairs, corners none. IRN has
    every pair (crop=0).

    Returns:
      bool[B, N, H, W].
    """
    H, W = shape
    inside = valid_mask(sizes, H, W)[..., 0]
    columns = jnp.arange(W) >= crop
    sources = valid_mask(sizes - crop, H, W)[..., 0] & columns
    return sources[:, None] & shifted(inside, offsets, fill=False)


def feature_affinities(features: jax.Array, offsets: Offsets) -> jax.Array:
    """exp(-mean |f_p - f_q|) of every pixel p and its neighbour q (psa): [B, H, W, D] -> half [B, N, H, W].

    One offset at a time, made again for the gradient, so that memory holds one difference [B, H, W, D] and
    not N. Beyond the array features count as zeros; multiply by `pairs`.
    """
    reach = reach_of(offsets)
    padded = jnp.pad(features, ((0, 0), (0, reach), (reach, reach), (0, 0)))

    @jax.checkpoint
    def affinity(offset: jax.Array) -> jax.Array:
        there = lax.dynamic_slice(padded, (0, offset[0], reach + offset[1], 0), features.shape)
        return jnp.exp(-jnp.abs(there - features).mean(-1))

    return lax.map(affinity, jnp.asarray(offsets)).swapaxes(0, 1)


def path_affinities(edges: jax.Array, offsets: Offsets) -> jax.Array:
    """1 - the strongest edge on the way from each pixel to its neighbour (IRN): [B, H, W] of 0..1 -> half
    [B, N, H, W].

    Beyond the array everything is edge, as in IRN, which pads so; multiply by `pairs`.
    """

    positions = sorted({position for offset in offsets for position in path_positions(offset)})
    around = shifted(edges, positions, fill=1)

    def strongest(offset: Offset) -> jax.Array:
        return around[:, np.array([positions.index(position) for position in path_positions(offset)])].max(1)

    return 1 - jnp.stack([strongest(offset) for offset in offsets], axis=1)


class Transition:
    """x -> x A / (column sums of A) for row vectors x, where A = I + half + half^T.

    It works on y = x D^(1/2), D = the column sums: there the matrix is D^(-1/2) A D^(-1/2), symmetric with
    eigenvalues in [-1, 1], so that one half is again enough. A grid's rows lie one after the other in memory,
    each followed by zeros, so that every neighbour is the same distance away and a step is a sum of shifted
    products. Memory: 4 N bytes a pixel for the matrix and 8 a pixel and row vector.
    """

    def __init__(self, half: jax.Array, offsets: Offsets) -> None:
        """`half` is float32[B, N, H, W], >= 0."""
        self._shape, reach = half.shape[2:], reach_of(offsets)
        self._pitch = self._shape[1] + reach
        self._shifts = [dy * self._pitch + dx for dy, dx in offsets]
        self._margin, self._length = reach * self._pitch + reach, self._shape[0] * self._pitch
        back = [_moved(half[:, i], offset) for i, offset in enumerate(offsets)]
        root = jnp.sqrt(1 + half.sum(1) + sum(back))
        there = shifted(root, offsets, fill=1)
        self._root = self._flat(root[:, None])
        self._diagonal = self._flat(1 / root[:, None] ** 2)
        weights = self._flat(half / (root[:, None] * there))
        self._weights = jnp.pad(weights, ((0, 0), (0, 0), (self._margin, 0)))

    def enter(self, x: jax.Array) -> jax.Array:
        """[B, K, H, W] -> the vectors that `step` takes."""
        return self._padded(self._flat(x) * self._root)

    def step(self, y: jax.Array) -> jax.Array:
        """One step of the walk."""
        total = self._diagonal * self._at(y, 0)
        for i, shift in enumerate(self._shifts):
            weights = self._weights[:, i, None]
            total += weights[..., self._margin :] * self._at(y, shift)
            total += weights[..., self._margin - shift :][..., : self._length] * self._at(y, -shift)
        return self._padded(total)

    def leave(self, y: jax.Array) -> jax.Array:
        """Undoes `enter`."""
        x = self._at(y, 0) / jnp.maximum(self._root, 1)  # 1 where it is the zero between rows
        return x.reshape(*x.shape[:2], self._shape[0], self._pitch)[..., : self._shape[1]]

    def _flat(self, x: jax.Array) -> jax.Array:
        gap = self._pitch - self._shape[1]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, gap))).reshape(*x.shape[:2], self._length)

    def _padded(self, y: jax.Array) -> jax.Array:
        return jnp.pad(y, ((0, 0), (0, 0), (self._margin, self._margin)))

    def _at(self, y: jax.Array, shift: int) -> jax.Array:
        start = self._margin + shift
        return lax.slice_in_dim(y, start, start + self._length, axis=2)


def _moved(x: jax.Array, offset: Offset) -> jax.Array:
    """Moves every value by an offset with dy >= 0, zeros coming in: [B, H, W] -> [B, H, W]."""
    (dy, dx), (H, W) = offset, x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (dy, 0), (max(dx, 0), max(-dx, 0))))
    left = max(-dx, 0)
    return padded[:, :H, left : left + W]
