"""Networks with the golden files' weights, and small ones for quick tests."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.helpers.golden import NARROW, names_at, state_dict
from wsss_jax.models.classifier import Classifier
from wsss_jax.models.dropout import Dropout
from wsss_jax.models.layers import Conv
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.systems.cam.task import Cam
from wsss_jax.systems.cpn.network import CpnNetwork
from wsss_jax.systems.cpn.task import Cpn
from wsss_jax.systems.cse.task import Cse
from wsss_jax.task import Outcome, Task, Term, image_counts, weighted_sum
from wsss_jax.training.initial import variable_shapes
from wsss_jax.weights import to_variables

FROZEN_BLOCKS = ("conv1a", "b2", "b2_1", "b2_2")


# By what the channels of a golden network are divided: at full width only in CI, which takes minutes.
WIDTHS = (NARROW, pytest.param(1, marks=pytest.mark.slow))


@functools.cache
def golden_variables(seed: str = "dev", network: str = "resnet38_cls", divide: int = 1):
    """Variables of a network, by default the classifier, by the rule of the golden files."""
    return to_variables(state_dict(seed, names_at(network, divide)), network)


def narrow_classifier(num_classes=6, width=1 / 16, blocks=(0, 0, 1, 0), **options) -> Classifier:
    """A classifier that a CPU runs in milliseconds."""
    return Classifier(num_classes, width=width, blocks=blocks, **options)


def narrow_cam(**options) -> Cam:
    return Cam(network=narrow_classifier(**options), frozen_blocks=FROZEN_BLOCKS)


def narrow_cse(**options) -> Cse:
    er, cl = narrow_classifier(head_dropout=0.0, **options), narrow_classifier(head_dropout=0.0, **options)
    return Cse(er=er, cl=cl, frozen_blocks=FROZEN_BLOCKS, erased_weight=0.3, erased_weight_per_epoch=0.05)


def narrow_cpn(num_classes=6, width=1 / 32, blocks=(0, 0, 0, 0), **options) -> Cpn:
    network = CpnNetwork(num_classes, width=width, blocks=blocks, **options)
    return Cpn(network=network, frozen_blocks=FROZEN_BLOCKS)


class TwoLayers(nn.Module):
    """Scores six classes, float32[B, 6]; where the network does not matter, for it compiles in no time."""

    width: int
    preprocess: ClassVar = IMAGENET

    @nn.compact
    def __call__(self, images, keys=None):
        features = nn.relu(Conv(self.width, 3, 4, name="conv")(images))
        return Conv(6, 1, name="head")(Dropout(0.5, 0)(features, keys)).mean((1, 2))


@dataclass(frozen=True)
class TinyTask(Task):
    """Learns classes of images."""

    width: int = 4
    name, terms = "tiny", ("loss_cls",)

    @property
    def networks(self):
        return {"tiny": TwoLayers(self.width)}

    def group(self, path):
        return "new" if "head" in path else "pretrained"

    def loss(self, variables, batch, keys, progress, maximum=None):
        logits = self.networks["tiny"].apply(variables["tiny"], batch["images"], keys)
        return Outcome({"loss_cls": Term(multi_label_soft_margin(logits, batch["labels"]))})


def narrow_variables(method, seed=0):
    """Random variables of all networks of a method, batch norm statistics included, as NumPy arrays."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        kind = path[-1].key
        if kind in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        if kind in ("mean", "bias"):
            return (0.1 * rng.standard_normal(leaf.shape)).astype(np.float32)
        return (rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(np.float32)

    shapes = {name: variable_shapes(network) for name, network in method.networks.items()}
    return jax.tree_util.tree_map_with_path(fill, shapes)


def narrow_batch(rows=8, side=24, num_classes=6, seed=0, one_class=False):
    """A training batch as the loader makes it, with `keep` as CPN's samples have it."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((rows, num_classes)) < 0.4).astype(np.float32)
    labels[:, 0] = np.maximum(labels[:, 0], labels.sum(1) == 0)
    if one_class:
        labels = np.eye(num_classes, dtype=np.float32)[labels.argmax(1)]
    top, left = rng.integers(0, 6, (2, rows))
    return {
        "image": rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8),
        "box": np.stack([top, top + 16, left, left + 16], 1).astype(np.int32),
        "labels": labels,
        "keep": rng.integers(0, 2, (rows, side, side), dtype=np.uint8),
    }


def relative(found, wanted) -> float:
    """Largest difference relative to the largest value wanted."""
    wanted = np.asarray(wanted)
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def batch_loss(outcome, epsilon=0.0):
    """The loss and the mean of every term over a whole batch that is one group: (loss, {name: mean})."""
    means = {
        name: term.total.sum() / (image_counts(term).sum() + epsilon) for name, term in outcome.terms.items()
    }
    loss = weighted_sum(outcome.terms, means)
    return loss, {"loss": loss, **means}
