"""The pairs of positions that IRN learns from, one direction at a time.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019. Pairs start in the map without its last `radius - 1` rows and without as many columns on each side;
152 directions at radius 10. What a direction needs is made when its turn comes, and once more for the
gradient, so that memory holds one direction's pairs and not all: 13,090 positions of a crop of 512 pixels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from wsss_jax.ops.stencil import half_offsets, path_positions
from wsss_jax.task import Term

VOID = 255
EPSILON = 1e-5
_WEIGHTS = {"loss_bg": 1 / 4, "loss_fg": 1 / 4, "loss_neg": 1 / 2, "loss_dp_fg": 1 / 2, "loss_dp_bg": 1 / 2}
TERMS = tuple(_WEIGHTS)


class Directions(NamedTuple):
    """Where pairs end, and what lies on the way there."""

    offsets: jax.Array  # int32[N, 2], (dy, dx) from a pair's first position to its second
    paths: jax.Array  # int32[N, L, 2], positions on the way; shorter ones repeat their first


def directions(radius: int) -> Directions:
    """All directions nearer than `radius` positions."""
    offsets = half_offsets(radius)
    paths = [path_positions(offset) for offset in offsets]
    longest = max(map(len, paths))
    filled = [path + path[:1] * (longest - len(path)) for path in paths]
    return Directions(jnp.array(offsets, jnp.int32), jnp.array(filled, jnp.int32))


class Pairs(NamedTuple):
    """The pairs of one direction, by their first positions [B, h - reach, w - 2 reach]."""

    background: jax.Array  # bool: both are background
    foreground: jax.Array  # bool: both are of one class
    negative: jax.Array  # bool: they are of different classes, or of one and background
    affinity: jax.Array  # float32, 1 - the strongest boundary on the way
    displacement: jax.Array  # float32[..., 2], by how much their displacements differ


def pairs_of(
    boundary: jax.Array, field: jax.Array, labels: jax.Array, offset: jax.Array, path: jax.Array, reach: int
) -> Pairs:
    """The pairs of one direction.

    Args:
      boundary: float32[B, h, w], 0..1.
      field: float32[B, h, w, 2], displacements (dy, dx).
      labels: uint8[B, h, w]: 0 background, classes, 255 unknown.
      offset: int32[2], an entry of `directions`.
      path: int32[L, 2].
      reach: the radius less 1.
    """
    _, h, w = labels.shape

    def at(x: jax.Array, place: jax.Array) -> jax.Array:
        rows = lax.dynamic_slice_in_dim(x, place[0], h - reach, axis=1)
        return lax.dynamic_slice_in_dim(rows, reach + place[1], w - 2 * reach, axis=2)

    start = jnp.zeros_like(offset)
    here, there = at(labels, start), at(labels, offset)
    known, same = (here != VOID) & (there != VOID), here == there
    strongest = jax.vmap(lambda place: at(boundary, place))(path).max(0)
    displacement = at(field, start) - at(field, offset)
    return Pairs(
        known & same & (here == 0), known & same & (here != 0), known & ~same, 1 - strongest, displacement
    )


def pair_terms(logits: jax.Array, field: jax.Array, labels: jax.Array, radius: int) -> dict[str, Term]:
    """IRN's loss: bg / 4 + fg / 4 + neg / 2 + dp_fg / 2 + dp_bg / 2, each the mean over its pairs.

    -log a for pairs of background and of one class, -log (1 - a) for negative ones; pairs of one class should
    differ in displacement by what lies between them, those of background not at all, in both coordinates.

    Args:
      logits: float32[B, h, w], of boundaries.
      field: float32[B, h, w, 2], displacements.
      labels: uint8[B, h, w] as in `pairs_of`.
      radius: pairs are nearer than this.
    """
    boundary = jax.nn.sigmoid(logits)

    @jax.checkpoint
    def of_direction(direction: Directions) -> dict[str, tuple[jax.Array, jax.Array]]:
        pairs = pairs_of(boundary, field, labels, *direction, radius - 1)
        alike, different = -jnp.log(pairs.affinity + EPSILON), -jnp.log(1 + EPSILON - pairs.affinity)
        apart, together = jnp.abs(pairs.displacement - direction.offsets), jnp.abs(pairs.displacement)
        chosen = {
            "loss_bg": (alike, pairs.background),
            "loss_fg": (alike, pairs.foreground),
            "loss_neg": (different, pairs.negative),
            "loss_dp_fg": (apart, pairs.foreground[..., None]),
            "loss_dp_bg": (together, pairs.background[..., None]),
        }
        return {name: _sums(values, which) for name, (values, which) in chosen.items()}

    found = lax.map(of_direction, directions(radius))
    return {name: Term(total.sum(0), count.sum(0), _WEIGHTS[name]) for name, (total, count) in found.items()}


def _sums(values: jax.Array, which: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum and number of each image's chosen values, float32[B] each."""
    which = jnp.broadcast_to(which, values.shape)
    axes = tuple(range(1, values.ndim))
    return jnp.where(which, values, 0).sum(axes), which.sum(axes).astype(jnp.float32)
