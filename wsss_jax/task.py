"""What a training and a rule for CAMs have to say for themselves; loops, loaders and files are shared.

Training and inference see a system only through `Task` and `CamRule`, so this file lies below them, and the
systems lie above. Variables are `{network: {'params': ..., 'batch_stats': ...}}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from wsss_jax.models.classifier import Scores
from wsss_jax.ops.normalise import max_normalise
from wsss_jax.ops.preprocess import Preprocess
from wsss_jax.ops.resize import resize_valid
from wsss_jax.ops.valid import after_stride

Variables = dict[str, Any]
Metrics = dict[str, jax.Array]
Path = tuple[str, ...]
FROZEN = "frozen"  # the group of variables that never change
STATE = "state"  # of those that change without a gradient, such as batch statistics


class Progress(NamedTuple):
    """Where training is; both are traced scalars."""

    step: jax.Array  # int32, 0 at the first step
    epoch: jax.Array  # int32, 0 in the first epoch


@dataclass(frozen=True)
class Term:
    """A term of the loss, or a figure beside it: the mean of some values, image by image.

    The mean is over all values of all images of a group (see `Task.group_size`), wherever these are computed.
    """

    total: jax.Array  # float32[B], the sum of each image's values
    count: jax.Array | float = 1.0  # float32[B], how many they are; 1 where an image's sum is its mean
    weight: jax.Array | float = 1.0  # of the mean in the loss; 0 for a figure that is only shown


@dataclass(frozen=True)
class Outcome:
    """What a loss gives.

    Attributes:
      terms: by the names of `Task.terms`.
      state: the new values of the variables of group STATE, in the structure of `Variables`; {} for none.
    """

    terms: dict[str, Term]
    state: Variables = field(default_factory=dict)


class Task:
    """One training: networks that learn, perhaps beside others that do not, and a loss.

    A subclass is a frozen dataclass. It has `name`, `terms`, `networks` and `loss`, and what differs from the
    defaults.
    """

    name: ClassVar[str]  # its folder under `checkpoints/`
    terms: ClassVar[tuple[str, ...]]  # names of what `loss` gives, in the order in which they are shown
    # Losses are means over so many consecutive images of the global batch, and these means are averaged: part
    # of a recipe, unlike the number of devices. None is the whole batch.
    group_size: int | None = None
    fresh: ClassVar[tuple[str, ...]] = ()  # networks that never start from pretrained weights
    epsilon: ClassVar[float] = 0.0  # added to the number of values of a term, where a recipe avoids 0 / 0 so

    @property
    def networks(self) -> Mapping[str, Any]:
        """The networks by name.

        Each is a flax module that also has `stride`, pixels of its input per position of its output;
        `preprocess`, from uint8 images to its input; `state_dict`, the name of its published state dict in
        `weights.networks`; and `heads`, the top-level modules that ImageNet weights lack. One that sees no
        images has `inputs` in place of the first two, see `inputs_of`.
        """
        raise NotImplementedError

    def group(self, path: Path) -> str:
        """Group of the variable at (network, collection, module, ..., leaf): FROZEN, STATE, or one that the
        optimiser knows."""
        return "weights" if path[1] == "params" else STATE

    def prepare(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What `loss` is given of a batch: the crops as `images`, prepared for the first network, and
        everything else as the samples have it."""
        others = {name: x for name, x in batch.items() if name not in ("image", "box")}
        first = next(iter(self.networks.values()))
        return {"images": first.preprocess.crops(batch["image"], batch["box"]), **others}

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> jax.Array | None:
        """A maximum over the *whole* batch on which the loss depends; None where there is none.

        Gradient accumulation takes it over all its parts first, so that parts and whole give the same
        gradient.
        """
        return None

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """The terms of a batch.

        Args:
          variables: of all networks.
          batch: what `prepare` gave.
          keys: one random key per image; None switches dropout off.
          progress: step and epoch, for schedules of loss weights.
          maximum: `batch_maximum` of the batch that this one is a part of; None if it is whole.
        """
        raise NotImplementedError

    @property
    def learning(self) -> tuple[str, ...]:
        """Names of the networks of which something changes; checkpoints hold these."""
        return tuple(name for name, network in self.networks.items() if self._changes(name, network))

    def _changes(self, name: str, network: Any) -> bool:
        shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs_of(network))
        paths = (tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes))
        return any(self.group((name, *path)) != FROZEN for path in paths)


def inputs_of(network: Any) -> tuple[jax.Array, ...]:
    """Inputs to make a network's parameters with: its `inputs`, or of one that sees images a small one, since
    no parameter depends on its size."""
    return getattr(network, "inputs", (jnp.zeros((1, 32, 32, 3)),))


class SegmentationTask(Task):
    """A training on label maps, which gives a network that labels images of any size.

    Its networks have background as their first class. Training batches have `label_map` uint8[B, H, W] beside
    the crops.
    """

    def logits(
        self, variables: Variables, images: jax.Array, sizes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Scores of background and classes, without dropout.

        Args:
          variables: of all networks.
          images: prepared, [B, H, W, 3], zero outside the images.
          sizes: int32[B, 2], of the images, which lie at the top left of their arrays.

        Returns:
          float32[B, h, w, C + 1], and int32[B, 2], how many rows and columns of each image's count; they
          become those of the image by half-pixel bilinear resizing.
        """
        raise NotImplementedError


def weighted_sum(terms: Mapping[str, Term], means: Mapping[str, jax.Array]) -> jax.Array:
    """The loss: each mean times its term's weight."""
    return sum((term.weight * means[name] for name, term in terms.items()), jnp.zeros(()))


def image_counts(term: Term) -> jax.Array:
    """How many values each image has, float32[B]; they take no part in gradients."""
    return jax.lax.stop_gradient(jnp.broadcast_to(jnp.asarray(term.count, jnp.float32), term.total.shape))


class CamRule:
    """How maps are made of what networks give; a subclass is a frozen dataclass."""

    name: ClassVar[str]  # of the task whose checkpoints hold the networks
    reduced: ClassVar[int] = 0  # stride of further maps beside those at the image's size; 0 for none

    @property
    def networks(self) -> Mapping[str, Any]:
        """The networks by name, as in `Task`; the first sees the images."""
        raise NotImplementedError

    @property
    def stride(self) -> int:
        """Pixels of the input per position of the maps that `cam` gives."""
        return next(iter(self.networks.values())).stride

    @property
    def preprocess(self) -> Preprocess:
        """From uint8 images to what `cam` is given."""
        return next(iter(self.networks.values())).preprocess

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """Maps that are resized to the image, and logits, for padded prepared images; never uses dropout."""
        raise NotImplementedError

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """From the network's input of `sizes` int32[B, 2] to images of `new_sizes`, inside arrays of `shape`:
        [B, h, w, K] -> [B, H, W, K], by the half-pixel convention."""
        return resize_valid(maps, after_stride(sizes, self.stride), new_sizes, shape)

    def activate(self, resized: jax.Array) -> jax.Array:
        """What happens to resized maps before scales and flips are summed: nothing where those of `cam` are
        not negative."""
        return resized

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Normalises summed maps [B, H, W, K] to 0..1: each class by its own maximum, as in psa."""
        return max_normalise(total, sizes)
