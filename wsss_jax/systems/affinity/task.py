"""`affinity`: AffinityNet, which learns which neighbouring pixels belong to the same class.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018 (psa), section 3.2. Its labels are the confident parts of CAMs after a dense
CRF (`labels`); random walks along what it has learnt turn CAMs into pseudo masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from wsss_jax.ops.stencil import feature_affinities, half_offsets, pairs, shifted
from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.resnet38.one_network import OneNetwork
from wsss_jax.task import Outcome, Progress, Term, Variables

VOID = 255
_EPSILON = 1e-5


class PairLabels(NamedTuple):
    """What is known of each pair, each bool[B, N, h, w] in the layout of `ops.stencil`."""

    background: jax.Array  # both are background
    foreground: jax.Array  # both are of one class
    negative: jax.Array  # they are of different classes, or of one and background


@dataclass(frozen=True, kw_only=True)
class Affinity(OneNetwork[AffinityNet]):
    """Trains AffinityNet on the labels of pixel pairs.

    Attributes:
      network, frozen_blocks: see `OneNetwork`.
      radius: pairs are nearer than this, in positions of 8 pixels (5).
    """

    radius: int

    name = "affinity"
    terms = ("loss_bg", "loss_fg", "loss_neg")
    epsilon = _EPSILON

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """bg / 4 + fg / 4 + neg / 2, each term the mean over its pairs in the whole batch.

        Args:
          variables: of the network.
          batch: `images` float32[B, H, W, 3], prepared; `labels` uint8[B, H / stride, W / stride] of the
            feature map's positions: 0 background, other values classes, 255 unknown.
          keys: one random key per image; None switches dropout off.
          progress: not used.
          maximum: not used.
        """
        labels = pair_labels(batch["labels"], self.radius)
        features = self.network.apply(variables[self.name], batch["images"], keys=keys)
        affinity = feature_affinities(cast(jax.Array, features), half_offsets(self.radius))
        return Outcome(pair_terms(affinity, labels))


def pair_labels(labels: jax.Array, radius: int) -> PairLabels:
    """What the labels uint8[B, h, w] of positions say of the pairs that psa trains on."""
    offsets = half_offsets(radius)
    B, h, w = labels.shape
    sizes = jnp.tile(jnp.asarray([[h, w]]), (B, 1))
    here, there = labels[:, None], shifted(labels, offsets, fill=VOID)
    known = pairs(offsets, sizes, (h, w), crop=radius - 1) & (here != VOID) & (there != VOID)
    same = known & (here == there)
    return PairLabels(same & (here == 0), same & (here != 0), known & (here != there))


def pair_terms(affinity: jax.Array, labels: PairLabels) -> dict[str, Term]:
    """The terms of background, foreground and negative pairs, of affinities [B, N, h, w].

    -log a, and -log (1 - a) for negative pairs.
    """
    alike, different = -jnp.log(affinity + _EPSILON), -jnp.log(1 + _EPSILON - affinity)
    return {
        "loss_bg": _term(alike, labels.background, 1 / 4),
        "loss_fg": _term(alike, labels.foreground, 1 / 4),
        "loss_neg": _term(different, labels.negative, 1 / 2),
    }


def _term(values: jax.Array, chosen: jax.Array, weight: float) -> Term:
    """The mean of the chosen values."""
    axes = (1, 2, 3)
    return Term(jnp.where(chosen, values, 0).sum(axes), chosen.sum(axes).astype(jnp.float32), weight)
