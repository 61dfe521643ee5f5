"""What a system has to say for itself; loops, loaders, evaluators and files are shared.

Training and inference see a system only through `Method`, so this file lies below them and the systems
themselves, in `methods/`, above. A new system is a frozen dataclass with these members and a line in
`methods/__init__.py`. Variables are `{network: {'params': ..., 'batch_stats': ...}}`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

from wsss_jax.models.classifier import Scores

Variables = dict[str, Any]
Metrics = dict[str, jax.Array]
Path = tuple[str, ...]


class Progress(NamedTuple):
    """Where training is; both are traced scalars."""

    step: jax.Array  # int32, 0 at the first step
    epoch: jax.Array  # int32, 0 in the first epoch


class Learner(Protocol):
    """What the training loop sees: networks and a loss."""

    @property
    def networks(self) -> Mapping[str, Any]:
        """The flax modules by name. Besides `__call__` they have `state_dict`, the name of their published
        state dict in `weights.networks`, and `heads`, the top-level modules that ImageNet weights lack."""

    @property
    def trained(self) -> str:
        """Name of the network that learns, whose CAMs are the result and which checkpoints hold."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `loss` reports; the first is the loss itself."""

    def group(self, path: Path) -> str:
        """Optimiser group of the variable at (network, collection, module, ..., leaf); see
        `training.optimizer`."""

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> jax.Array:
        """A maximum over the *whole* batch on which the loss depends; a constant where there is none.

        Gradient accumulation takes it over all its parts first, so that parts and whole give the same
        gradient.
        """

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a batch and its terms by name.

        Args:
          variables: of all networks.
          batch: `images` float32[B, H, W, 3], normalised; `labels` float32[B, C]; and what else the method's
            samples hold (`stages.samples`).
          keys: one random key per image.
          progress: step and epoch, for schedules of loss weights.
          maximum: `batch_maximum` of the batch that this one is a part of; None if it is whole.
        """


class Method(Learner, Protocol):
    """One weakly supervised system."""

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps that are resized to the picture, and logits, for padded normalised images; never uses
        dropout."""

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """Resizes maps of `cam` from images of `sizes` int32[B, 2] to pictures of `new_sizes`, inside arrays
        of `shape`: [B, h, w, K] -> [B, H, W, K]."""

    def activate(self, resized: jax.Array) -> jax.Array:
        """What happens to resized maps before scales and flips are summed."""

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Normalises summed maps [B, H, W, K] to the published value range."""
