"""Random walks over a list of images: AffinityNet, affinities and walk, batch by batch on the devices."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.class_maps import ClassMaps, ImageMaps
from wsss_jax.data.pool import map_ordered
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, one_behind
from wsss_jax.ops.valid import after_stride, zero_outside
from wsss_jax.refinement.jobs import Refused
from wsss_jax.refinement.walk import WalkSettings, psa_affinities, psa_walk
from wsss_jax.sharding import replicated, split
from wsss_jax.task import Variables


class WalkInput(NamedTuple):
    """An image and what is to be carried over it."""

    image_id: str
    image: np.ndarray  # uint8[H, W, 3]
    seeds: ClassMaps  # background first, [K + 1, ceil(H / 8), ceil(W / 8)]


class _Running(NamedTuple):
    items: Sequence[WalkInput | Refused]
    scores: jax.Array  # [rows, planes, h, w]


class Walker:
    """Walks of images in padded batches, each the same as that of the image alone.

    Two programs: from images to affinities, compiled once per bucket, and the walk, compiled once per
    bucket and number of planes (1, 2, 4, ... with background).
    """

    def __init__(
        self, network: Any, radius: int, settings: WalkSettings, mesh: Mesh, plan: InferenceSettings
    ) -> None:
        """`plan` is what the batches are planned with."""
        self._network, self._radius, self._mesh, self._plan = network, radius, mesh, plan
        out: Any = split(mesh)
        self._affinities = jax.jit(self._half, out_shardings=out)
        self._walk = jax.jit(lambda x, half: psa_walk(x, half, radius, settings), out_shardings=out)

    def walk(
        self,
        variables: Variables,
        batches: Sequence[PlannedBatch],
        load: Callable[[str], WalkInput | Refused],
        threads: int,
    ) -> Iterator[list[ImageMaps | Refused]]:
        """Yields the propagated scores of each batch, in order, of the seeds' shape.

        Args:
          variables: of the network.
          batches: from `inference.predict.plan_batches`.
          load: reads an image, in threads.
          threads: how many.
        """
        variables = jax.device_put(variables, replicated(self._mesh))
        flat = [image_id for batch in batches for image_id in batch.image_ids]
        inputs = map_ordered(load, flat, threads=threads)
        groups = (list(itertools.islice(inputs, len(batch.image_ids))) for batch in batches)
        started = (self._start(variables, *each) for each in zip(groups, batches, strict=True))
        yield from map(_collect, one_behind(started))

    def _start(
        self, variables: Variables, items: Sequence[WalkInput | Refused], batch: PlannedBatch
    ) -> _Running:
        bucket = batch.bucket
        readable = [item if isinstance(item, WalkInput) else None for item in items]
        rows = self._plan.rows(bucket, self._mesh.size)
        images, sizes = np.zeros((rows, *bucket, 3), np.uint8), np.ones((rows, 2), np.int32)
        planes = _power_of_two(max((len(item.seeds.planes) for item in readable if item), default=1))
        h, w = (-(-n // self._network.stride) for n in bucket)
        seeds = np.zeros((rows, planes, h, w), np.float32)
        for i, item in enumerate(readable):
            if item is not None:
                H, W = sizes[i] = item.image.shape[:2]
                images[i, :H, :W] = item.image
                count, rows, columns = item.seeds.planes.shape
                seeds[i, :count, :rows, :columns] = item.seeds.planes
        images, sizes, seeds = jax.device_put((images, sizes, seeds), split(self._mesh))
        return _Running(items, self._walk(seeds, self._affinities(variables, images, sizes)))

    def _half(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> jax.Array:
        """Affinities, in the layout of `ops.stencil`, of uint8[B, H, W, 3] images."""
        # psa pads images to multiples of 8, by zeros after normalising, and its network sees the padding.
        positions = after_stride(sizes, self._network.stride)
        pixels = zero_outside(self._network.preprocess.images(images), sizes)
        features = self._network.apply(variables, pixels, positions * self._network.stride)
        return psa_affinities(features, positions, self._radius)


def _collect(batch: _Running) -> list[ImageMaps | Refused]:
    scores = np.asarray(batch.scores)
    return [
        item if isinstance(item, Refused) else _walked(item, scores[i]) for i, item in enumerate(batch.items)
    ]


def _walked(item: WalkInput, scores: np.ndarray) -> ImageMaps:
    class_ids, seeds = item.seeds
    count, h, w = seeds.shape
    return ImageMaps(item.image_id, ClassMaps(class_ids, scores[:count, :h, :w].copy()))


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
