"""Means over the largest or smallest values of a map, and maps of the best channel."""

import jax
import jax.numpy as jnp


def top_mean(x: jax.Array, count: int) -> jax.Array:
    """Mean of the `count` largest of each row: [B, N] -> [B]; equal values share the last places.

    A sort of the millions of values of a training batch costs much more than this: the value that takes the
    last place is found by 32 passes, one for each of its bits.

    Raises:
      ValueError: `count` is not in 1..N.
    """
    if not 1 <= count <= x.shape[1]:
        raise ValueError(f"count is {count}, but must lie in 1..{x.shape[1]}")
    last = _largest(jax.lax.stop_gradient(x), count)[:, None]
    above, equal = x > last, x == last
    places_left = count - above.sum(1, keepdims=True)
    weights = jnp.where(above, 1.0, jnp.where(equal, places_left / equal.sum(1, keepdims=True), 0.0))
    return (x * weights).sum(1) / count


def hard_example_mean(errors: jax.Array, share: float) -> jax.Array:
    """Online hard example mining (A. Shrivastava et al., CVPR 2016): mean of the largest int(N * share)
    errors of each image: [B, ...] with N values an image -> [B]."""
    rows = errors.reshape(errors.shape[0], -1)
    return top_mean(rows, int(rows.shape[1] * share))


def min_pooling_loss(maps: jax.Array) -> jax.Array:
    """Adaptive min pooling (SEAM, CVPR 2020): mean of the lowest quarter of positions, where the image is
    likely background, of the best channel's positive part: [B, H, W, K] -> [B]."""
    best = jax.nn.relu(maps.max(-1)).reshape(maps.shape[0], -1)
    return -top_mean(-best, best.shape[1] // 4)


def max_onehot(x: jax.Array) -> jax.Array:
    """Keeps each position's largest channel, also where it is negative, and zeroes the others: [..., K].

    Equal ones stay. The barrier makes the two sides of the comparison the same numbers: the compiler would
    rather compute x anew for each, and may round it differently.
    """
    x = jax.lax.optimization_barrier(x)
    return jnp.where(x == x.max(-1, keepdims=True), x, 0)


def _largest(x: jax.Array, count: int) -> jax.Array:
    """The count-th largest value of each row, exactly: [B, N] -> [B]."""
    keys = _ordered_bits(x)

    def set_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        trial = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        enough = (keys >= trial[:, None]).sum(1) >= count
        return jnp.where(enough, trial, found)

    found = jax.lax.fori_loop(0, 32, set_bit, jnp.zeros(x.shape[0], jnp.uint32))
    return _from_ordered_bits(found).astype(x.dtype)


def _ordered_bits(x: jax.Array) -> jax.Array:
    """Integers in the order of the floats: a float's bits, inverted where it is negative."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))


def _from_ordered_bits(keys: jax.Array) -> jax.Array:
    bits = jnp.where(keys >> 31 == 1, keys & jnp.uint32(0x7FFFFFFF), ~keys)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
