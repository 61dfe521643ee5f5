"""`affinity`: AffinityNet, which learns which neighbouring pixels belong to the same class.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018 (psa), section 3.2. Its labels are the confident parts of CAMs after a dense
CRF (`data.affinity_labels`); random walks along what it has learnt turn CAMs into pseudo masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, cast

import jax
import jax.numpy as jnp

from wsss_jax.errors import ConfigError
from wsss_jax.method import Metrics, Progress, Variables
from wsss_jax.ops.stencil import feature_affinities, half_offsets, pairs, shifted
from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.resnet38.one_network import OneNetwork

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
      radius: pairs are nearer than this, in cells of 8 pixels (5).
    """

    radius: int

    trained = "affinity"
    metrics = ("loss", "loss_bg", "loss_fg", "loss_neg")

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> NoReturn:
        """Raises ConfigError: parts of a batch do not know how many pairs the others have."""
        raise ConfigError(
            "AffinityNet's loss divides by the number of pairs in the whole batch, so gradients cannot be "
            "accumulated over its parts; use accumulation 1 and lower --config.affinity.batch_size"
        )

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress | None = None,
        maximum: jax.Array | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """bg / 4 + fg / 4 + neg / 2, each term the mean over its pairs in the whole batch.

        Args:
          variables: of the network.
          batch: `images` float32[B, H, W, 3], normalised; `labels` uint8[B, H / 8, W / 8] of cells: 0
            background, other values classes, 255 unknown.
          keys: one random key per image; None switches dropout off.
          progress: not used.
          maximum: not used.
        """
        labels = pair_labels(batch["labels"], self.radius)
        features = self.network.apply(variables[self.trained], batch["images"], keys=keys)
        affinity = feature_affinities(cast(jax.Array, features), half_offsets(self.radius))
        background, foreground, negative = pair_losses(affinity, labels)
        loss = background / 4 + foreground / 4 + negative / 2
        terms = (loss, background, foreground, negative)
        return loss, dict(zip(self.metrics, terms, strict=True))


def pair_labels(labels: jax.Array, radius: int) -> PairLabels:
    """What the labels uint8[B, h, w] of cells say of the pairs that psa trains on."""
    offsets = half_offsets(radius)
    B, h, w = labels.shape
    sizes = jnp.tile(jnp.asarray([[h, w]]), (B, 1))
    here, there = labels[:, None], shifted(labels, offsets, fill=VOID)
    known = pairs(offsets, sizes, (h, w), crop=radius - 1) & (here != VOID) & (there != VOID)
    same = known & (here == there)
    return PairLabels(same & (here == 0), same & (here != 0), known & (here != there))


def pair_losses(affinity: jax.Array, labels: PairLabels) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Losses of background, foreground and negative pairs, of affinities [B, N, h, w].

    The mean of -log a, and of -log (1 - a) for negative pairs, each over its pairs in the whole batch.
    """
    alike, different = -jnp.log(affinity + _EPSILON), -jnp.log(1 + _EPSILON - affinity)
    return (
        _mean(alike, labels.background),
        _mean(alike, labels.foreground),
        _mean(different, labels.negative),
    )


def _mean(values: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mean of the chosen values; 0 where none is chosen."""
    return jnp.where(chosen, values, 0).sum() / (chosen.sum() + _EPSILON)
