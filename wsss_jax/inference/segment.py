"""Inference of segmentation networks: label maps of images of any size by few compiled programs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.source import Source
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, one_behind, padded_batches
from wsss_jax.ops.resize import resize_valid
from wsss_jax.ops.valid import zero_outside
from wsss_jax.sharding import replicated, split
from wsss_jax.task import SegmentationTask, Variables


class PaddedLabels(NamedTuple):
    """What a network says of a batch of padded images."""

    labels: jax.Array  # uint8[B, H, W], 0 background, class + 1
    logits: jax.Array  # float32[B, h, w, C + 1], at the network's size
    logit_sizes: jax.Array  # int32[B, 2], the rows and columns of them that count


class Segmentation(NamedTuple):
    """What a network says of an image."""

    image_id: str
    labels: np.ndarray  # uint8[H, W], 0 background, class + 1
    logits: np.ndarray  # float32[C + 1, h, w], background first, at the network's size


class SegmentProgram:
    """Labels of padded images, the same as those of each image alone; one compilation per bucket."""

    def __init__(self, task: SegmentationTask, mesh: Mesh) -> None:
        """Batches must be divisible by the mesh's devices."""
        self.compiled = 0  # programs so far
        self._task, self._mesh = task, mesh
        out: Any = split(mesh)
        self._run = jax.jit(self._segments, out_shardings=PaddedLabels(out, out, out))

    def __call__(self, variables: Variables, images: Any, sizes: Any) -> PaddedLabels:
        """Starts the computation for uint8[B, H, W, 3] images of sizes int32[B, 2]."""
        return self._run(variables, *jax.device_put((images, sizes), split(self._mesh)))

    def place(self, variables: Variables) -> Variables:
        """Copies the variables to every device."""
        return jax.device_put(variables, replicated(self._mesh))

    def _segments(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> PaddedLabels:
        self.compiled += 1  # runs when traced only
        network = next(iter(self._task.networks.values()))
        pixels = zero_outside(network.preprocess.images(images), sizes)
        logits, logit_sizes = self._task.logits(variables, pixels, sizes)
        H, W = images.shape[1:3]
        enlarged = resize_valid(logits, logit_sizes, sizes, (H, W))
        return PaddedLabels(jnp.argmax(enlarged, -1).astype(jnp.uint8), logits, logit_sizes)


class Segmenter:
    """Labels lists of images, batch by batch; its compiled programs serve any number of them."""

    def __init__(self, task: SegmentationTask, mesh: Mesh, settings: InferenceSettings) -> None:
        """`settings` are those that the batches are planned with; of its scales there is 1 only."""
        self.program = SegmentProgram(task, mesh)
        self._settings, self._devices = settings, mesh.size

    def segment(
        self, variables: Variables, source: Source, batches: Sequence[PlannedBatch]
    ) -> Iterator[list[Segmentation]]:
        """Yields the results of each batch, in order.

        Args:
          variables: of all networks.
          source: reads the images.
          batches: from `plan_batches`, possibly fewer.
        """
        variables = self.program.place(variables)
        padded = padded_batches(source, batches, self._settings, self._devices)
        started = (
            (batch, np.asarray(p.original), self.program(variables, p.images[0], p.sizes[0]))
            for batch, p in padded
        )
        yield from (_collect(*item) for item in one_behind(started))


def _collect(batch: PlannedBatch, sizes: np.ndarray, found: PaddedLabels) -> list[Segmentation]:
    labels, logits, logit_sizes = map(np.asarray, found)
    segmentations = []
    for i, image_id in enumerate(batch.image_ids):
        (H, W), (h, w) = sizes[i], logit_sizes[i]
        planes = np.ascontiguousarray(logits[i, :h, :w].transpose(2, 0, 1))
        segmentations.append(Segmentation(image_id, labels[i, :H, :W].copy(), planes))
    return segmentations
