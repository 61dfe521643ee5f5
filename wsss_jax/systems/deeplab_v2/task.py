"""`deeplab_v2`: cross-entropy at three scales and at their maximum, on sub-batches of 5 images."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from wsss_jax.ops.losses import pixel_cross_entropy
from wsss_jax.systems.deeplab_v2.network import DeepLabV2, MultiScaleLogits, logit_size
from wsss_jax.task import FROZEN, Outcome, Path, Progress, SegmentationTask, Term, Variables

VOID = 255


@dataclass(frozen=True, kw_only=True)
class DeepLabV2Task(SegmentationTask):
    """Trains the network on label maps.

    Each of the four terms is the mean over the labelled pixels of its own size in a group of consecutive
    images; the terms are summed and the groups averaged. The published recipe takes two groups of 5 a step.
    """

    network: DeepLabV2
    group_size: int | None = 5

    name = "deeplab_v2"
    terms = ("loss_full", "loss_half", "loss_three_quarters", "loss_maximum")
    epsilon = 1e-8  # a group without a labelled pixel counts 0; float32 does not see it beside 1 pixel

    @property
    def networks(self) -> Mapping[str, DeepLabV2]:
        """One network."""
        return {self.name: self.network}

    def group(self, path: Path) -> str:
        """All convolutions learn, the stem's too; batch norms never do, neither statistics nor scale nor
        bias."""
        _, collection, *modules, leaf = path
        if collection != "params" or modules[-1] == "bn":
            return FROZEN
        if modules[0] in self.network.heads:
            return "new_bias" if leaf == "bias" else "new"
        return "pretrained"

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """The four cross-entropies, each against the labels at its logits' size.

        Args:
          variables: of the network.
          batch: `images` float32[B, H, W, 3], prepared; `label_map` uint8[B, H, W], 255 where unknown;
            `index` int32[B], -1 for what only fills an incomplete group and has no part in the loss.
          keys, progress, maximum: not used.
        """
        labels = jnp.where(batch["index"][:, None, None] < 0, VOID, batch["label_map"])
        scores: MultiScaleLogits = self.network.apply(variables[self.name], batch["images"])  # type: ignore[assignment]
        return Outcome(
            {
                name: Term(*pixel_cross_entropy(logits, shrunk_labels(labels, logits.shape[1:3]), VOID))
                for name, logits in zip(self.terms, scores, strict=True)
            }
        )

    def logits(
        self, variables: Variables, images: jax.Array, sizes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The maximum over the scales, and its sizes."""
        scores: MultiScaleLogits = self.network.apply(variables[self.name], images, sizes)  # type: ignore[assignment]
        return scores.maximum, logit_size(sizes)


def shrunk_labels(labels: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Label maps [B, H, W] at (h, w), as PIL's nearest-neighbour resizing: pixel floor((i + 0.5) H / h)."""
    rows, columns = (
        np.floor((np.arange(m) + 0.5) * n / m).astype(np.int32)
        for n, m in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
