"""Gaussian filtering on the permutohedral lattice, with static shapes and without a hash table.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010,
as Krähenbühl and Koltun's dense CRF (NIPS 2011) and pydensecrf use it: a point of d features lies in a
simplex of D = d + 1 lattice points; its values are spread over them by barycentric weights, every direction
of the lattice is blurred once by (1/2, 1, 1/2), and the point reads its simplex again. Only lattice points
that some point touches exist; neighbours elsewhere count 0, which is part of the result.

Instead of a hash table, the (point, corner) pairs are sorted by their lattice point's coordinates. `count`
tells how many lattice points there are before `build` needs that number as a static size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_BITS = {1: 16, 2: 16, 3: 16, 4: 15, 5: 12}  # of each coordinate, by d; together less than two 32-bit words
_NOWHERE = np.uint32(0xFFFFFFFF)  # both words of a point that is left out; sorts behind every coordinate
BLOCK = 8  # pairs of one lattice point that are summed at a time


class Corners(NamedTuple):
    """The simplices of N points with d features, D = d + 1; lattice points are packed into two words each."""

    high: jax.Array  # uint32[N * D]
    low: jax.Array  # uint32[N * D]
    weights: jax.Array  # float32[N, D], barycentric, 0..1, summing to 1


class Lattice(NamedTuple):
    """M lattice points, the pairs that touch each of them in blocks, and their neighbours.

    Index M stands for no lattice point; its value is always 0.
    """

    corners: jax.Array  # int32[N, D], lattice points of each point's simplex
    weights: jax.Array  # float32[N, D]
    block_sources: jax.Array  # int32[R, BLOCK], points that the pairs of a block come from
    block_weights: jax.Array  # float32[R, BLOCK], 0 where a block is not full
    block_targets: jax.Array  # int32[R], ascending, the lattice point of each block
    neighbours: jax.Array  # int32[D, 2, M + 1]


def largest_coordinate(dimensions: int) -> int:
    """Lattice coordinates must be below this; see `reach`."""
    return (1 << _BITS[dimensions] - 1) - dimensions - 2


def reach(features: np.ndarray) -> float:
    """A bound of the lattice coordinates of points whose features are between 0 and these, float[d]."""
    scaled = _scale(len(features)) * features
    furthest = max(scaled.sum(), (np.arange(1, len(features) + 1) * scaled).max())
    return float(furthest) + 2 * (len(features) + 1)


def embed(features: jax.Array, valid: jax.Array) -> Corners:
    """The simplex of each point.

    Args:
      features: float32[N, d], d up to 5; the filter's standard deviation is 1 in each of them.
      valid: bool[N]; points that are not valid touch no lattice point.
    """
    count, d = features.shape
    elevated = _elevate(features)
    base, rank = _nearest_zero(elevated)
    weights = _barycentric(elevated - base, rank)
    remainder = jnp.arange(d + 1)[:, None]
    wraps = rank[:, None, :d] > d - remainder
    keys = base.astype(jnp.int32)[:, None, :d] + remainder - jnp.where(wraps, d + 1, 0)
    high, low = _pack(keys)
    present = valid[:, None]
    high, low = (jnp.where(present, word, _NOWHERE).reshape(count * (d + 1)) for word in (high, low))
    return Corners(high, low, weights)


def sort_order(corners: Corners) -> jax.Array:
    """int32[N * D]: the order that sorts the pairs by lattice point."""
    places = jnp.arange(corners.high.size, dtype=jnp.int32)
    return jax.lax.sort((corners.high, corners.low, places), num_keys=2)[2]


def count(corners: Corners, order: jax.Array) -> jax.Array:
    """int32: how many lattice points there are; `build` needs at least as many."""
    high, low = corners.high[order], corners.low[order]
    return (_begins(high, low) & (high != _NOWHERE)).sum(dtype=jnp.int32)


def build(corners: Corners, order: jax.Array, size: int) -> Lattice:
    """The lattice of M = `size` points, at least `count` of them.

    The arrays are static in size, so any larger M gives the same filter.
    """
    pairs, (points, D) = order.size, corners.weights.shape
    high, low = corners.high[order], corners.low[order]
    there = high != _NOWHERE
    number = jnp.cumsum(_begins(high, low) & there, dtype=jnp.int32)  # from 1
    # The first pair of each lattice point; the entry after the last one ends it.
    first = jnp.minimum(jnp.searchsorted(number, jnp.arange(1, size + 2)), there.sum()).astype(jnp.int32)
    place = jnp.minimum(first, pairs - 1)
    real = jnp.arange(size + 1) < number[-1]
    words = (jnp.where(real, high[place], _NOWHERE), jnp.where(real, low[place], _NOWHERE))
    target = jnp.where(there, number - 1, size)
    sources, weights, targets = _blocks(order, corners.weights, first, size)
    return Lattice(
        corners=jnp.zeros(pairs, jnp.int32).at[order].set(target, unique_indices=True).reshape(points, D),
        weights=corners.weights,
        block_sources=sources,
        block_weights=weights,
        block_targets=targets,
        neighbours=_neighbours(words, D - 1),
    )


def filter_values(lattice: Lattice, values: jax.Array, exists: jax.Array | None = None) -> jax.Array:
    """Filters float32[N, K] -> float32[N, K], up to a constant factor.

    Args:
      lattice: of the N points.
      values: to be filtered; finite also where the points are not valid.
      exists: float32[M + 1, 1], 1 for lattice points that exist, where the lattice is larger than what the
        valid points touch (see `touched`).
    """
    spread = _splat(lattice, values)

    def blur(z: jax.Array, pair: jax.Array) -> tuple[jax.Array, None]:
        z = z + 0.5 * (z[pair[0]] + z[pair[1]])
        return (z if exists is None else z * exists), None

    blurred, _ = jax.lax.scan(blur, spread, lattice.neighbours)
    read = (
        lattice.weights[:, i, None] * blurred[lattice.corners[:, i]] for i in range(lattice.corners.shape[1])
    )
    return sum(read, jnp.zeros(()))


def touched(lattice: Lattice, valid: jax.Array) -> jax.Array:
    """float32[M + 1, 1]: 1 for the lattice points that valid ones of the points touch, with any weight."""
    # A corner of weight 0 exists too; an unfilled place of a block repeats the block's first point.
    blocks = valid[lattice.block_sources].any(axis=1)
    size = lattice.neighbours.shape[2]
    return (
        jax.ops.segment_max(
            blocks.astype(jnp.float32), lattice.block_targets, num_segments=size, indices_are_sorted=True
        )
        .at[size - 1]
        .set(0)[:, None]
        .clip(0)
    )


def _splat(lattice: Lattice, values: jax.Array) -> jax.Array:
    """Sums the points' values at the lattice points: [N, K] -> [M + 1, K], the last row 0.

    Term by term, for XLA on CPU takes five times as long over a sum along a gathered axis.
    """
    terms = (lattice.block_weights[:, i, None] * values[lattice.block_sources[:, i]] for i in range(BLOCK))
    return jax.ops.segment_sum(
        sum(terms, jnp.zeros(())),
        lattice.block_targets,
        num_segments=lattice.neighbours.shape[2],
        indices_are_sorted=True,
    )


def _scale(d: int) -> np.ndarray:
    """float64[d]: makes the blur's standard deviation 1 in every feature."""
    i = np.arange(d)
    return np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))


def _elevate(features: jax.Array) -> jax.Array:
    """[N, d] -> [N, d + 1], coordinates on the hyperplane of zero sum; summed in pydensecrf's order."""
    d = features.shape[1]
    scaled = features * jnp.asarray(_scale(d), jnp.float32)
    total, elevated = jnp.zeros(len(features)), []
    for i in range(d, 0, -1):
        elevated.append(total - i * scaled[:, i - 1])
        total = total + scaled[:, i - 1]
    return jnp.stack([total, *reversed(elevated)], axis=1)


def _nearest_zero(elevated: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest lattice point of remainder 0, float32[N, D], and each coordinate's rank by what remains."""
    D = elevated.shape[1]
    rounded = jnp.round(elevated / D)
    excess = rounded.sum(axis=1).astype(jnp.int32)[:, None]
    base = rounded * D
    rest = elevated - base
    earlier = jnp.arange(D)[None, :] < jnp.arange(D)[:, None]
    larger = rest[:, None, :] > rest[:, :, None]
    equal = rest[:, None, :] == rest[:, :, None]
    rank = (larger | (equal & earlier)).sum(axis=2, dtype=jnp.int32) + excess
    shift = jnp.where(rank < 0, D, 0) - jnp.where(rank >= D, D, 0)
    return base + shift, rank + shift


def _barycentric(rest: jax.Array, rank: jax.Array) -> jax.Array:
    """Weights float32[N, D] of the simplex's corners by remainder."""
    D = rest.shape[1]
    rest = rest / D
    by_rank = ((rank[:, :, None] == jnp.arange(D)) * rest[:, :, None]).sum(axis=1)  # descending
    first = 1 + by_rank[:, -1:] - by_rank[:, :1]
    return jnp.concatenate([first, (by_rank[:, :-1] - by_rank[:, 1:])[:, ::-1]], axis=1)


def _pack(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """int32[..., d] -> two uint32[...] of a 64-bit number whose digits are the coordinates."""
    bits = _BITS[keys.shape[-1]]
    digits = (keys + (1 << bits - 1)).astype(jnp.uint32)
    high = low = jnp.zeros(keys.shape[:-1], jnp.uint32)
    for i in range(keys.shape[-1]):
        high, low = (high << bits) | (low >> (32 - bits)), (low << bits) | digits[..., i]
    return high, low


def _unpack(high: jax.Array, low: jax.Array, d: int) -> jax.Array:
    """The inverse of `_pack`."""
    bits = _BITS[d]
    digits = []
    for _ in range(d):
        digits.append((low & ((1 << bits) - 1)).astype(jnp.int32) - (1 << bits - 1))
        high, low = high >> bits, (low >> bits) | (high << (32 - bits))
    return jnp.stack(digits[::-1], axis=-1)


def _begins(high: jax.Array, low: jax.Array) -> jax.Array:
    """bool[n]: where a new lattice point begins among sorted words."""
    differs = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return jnp.concatenate([jnp.ones(1, bool), differs])


def _blocks(
    order: jax.Array, weights: jax.Array, first: jax.Array, size: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cuts each lattice point's run of sorted pairs into blocks, so that most sums are of fixed length."""
    pairs, D = order.size, weights.shape[1]
    rows = -(-pairs // BLOCK) + size
    length = jnp.diff(first)  # int32[size]
    ends = jnp.cumsum(-(-length // BLOCK))
    row = jnp.arange(rows)
    target = jnp.searchsorted(ends, row, side="right").astype(jnp.int32)
    own = jnp.minimum(target, size - 1)
    number = row - (ends[own] - -(-length[own] // BLOCK))
    start = first[own] + number * BLOCK
    place = start[:, None] + jnp.arange(BLOCK)
    filled = (place < first[own + 1][:, None]) & (target < size)[:, None]
    pair = order[jnp.where(filled, place, jnp.minimum(start, pairs - 1)[:, None])]
    return pair // D, jnp.where(filled, weights.reshape(-1)[pair], 0), target


def _neighbours(words: tuple[jax.Array, jax.Array], d: int) -> jax.Array:
    """int32[D, 2, M + 1]: both neighbours of each lattice point in each direction, M where there is none."""
    none = words[0].size - 1
    coordinates = _unpack(*words, d)
    steps = (d + 1) * np.eye(d + 1, d, dtype=np.int32) - 1
    there = words[0] != _NOWHERE

    def find(step: jax.Array) -> jax.Array:
        wanted = _pack(coordinates + step)
        place = _search(words, wanted)
        same = (words[0][place] == wanted[0]) & (words[1][place] == wanted[1]) & there
        return jnp.where(same, place, none)

    both = jnp.asarray(np.stack([steps, -steps], axis=1).reshape(-1, d))
    return jax.lax.map(find, both).reshape(d + 1, 2, none + 1)


def _search(sorted_words: tuple[jax.Array, jax.Array], wanted: tuple[jax.Array, jax.Array]) -> jax.Array:
    """int32: the first place in the sorted words that is not below each wanted one, at most the last."""
    size = sorted_words[0].size

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        a, b = sorted_words[0][middle], sorted_words[1][middle]
        below = (a < wanted[0]) | ((a == wanted[0]) & (b < wanted[1]))
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    start = jnp.zeros(wanted[0].shape, jnp.int32)
    low, _ = jax.lax.fori_loop(0, size.bit_length(), halve, (start, start + size - 1))
    return low
