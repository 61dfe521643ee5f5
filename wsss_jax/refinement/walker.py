"""Random walks over a list of images: network, affinities and walk, batch by batch on the devices."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.class_maps import ClassMaps, ImageMaps
from wsss_jax.data.pool import map_ordered
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, one_behind
from wsss_jax.refinement.jobs import Refused
from wsss_jax.refinement.walk import WalkSettings
from wsss_jax.sharding import replicated, split
from wsss_jax.task import Variables

_PLANES = 2  # that the walk's program takes at a time: most images have one or two classes


class Walk(Protocol):
    """A network that sees images, and a walk along what it sees."""

    @property
    def settings(self) -> WalkSettings:
        """How far it goes."""
        ...

    @property
    def stride(self) -> int:
        """Pixels per position of what is carried along."""
        ...

    def see(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> jax.Array:
        """What the walk goes along, of images uint8[B, H, W, 3] of sizes int32[B, 2]."""
        ...

    def carry(self, planes: jax.Array, seen: jax.Array, sizes: jax.Array) -> jax.Array:
        """Planes float32[B, K, h, w] carried along it, each by itself."""
        ...


class WalkInput(NamedTuple):
    """An image and what is to be carried over it."""

    image_id: str
    image: np.ndarray  # uint8[H, W, 3]
    seeds: ClassMaps  # at the walk's stride, [K, ceil(H / stride), ceil(W / stride)]


class _Running(NamedTuple):
    items: Sequence[WalkInput | Refused]
    scores: Sequence[jax.Array]  # [rows, _PLANES, h, w] each


class Walker:
    """Walks of images in padded batches, each the same as that of the image alone.

    Two programs for each bucket: the network's, and the walk's, which carries two planes at a time.

    Attributes:
      compiled: programs so far.
    """

    def __init__(self, walk: Walk, mesh: Mesh, plan: InferenceSettings) -> None:
        """`plan` is what the batches are planned with."""
        self.compiled = 0
        self._walk, self._mesh, self._plan = walk, mesh, plan
        out: Any = split(mesh)
        self._see = jax.jit(self._counted(walk.see), out_shardings=out)
        self._carry = jax.jit(self._counted(walk.carry), out_shardings=out)

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
        most = max([1, *(len(item.seeds.planes) for item in readable if item)])
        h, w = (-(-n // self._walk.stride) for n in bucket)
        seeds = np.zeros((rows, -(-most // _PLANES) * _PLANES, h, w), np.float32)
        for i, item in enumerate(readable):
            if item is not None:
                H, W = sizes[i] = item.image.shape[:2]
                images[i, :H, :W] = item.image
                count, y, x = item.seeds.planes.shape
                seeds[i, :count, :y, :x] = item.seeds.planes
        images, sizes = jax.device_put((images, sizes), split(self._mesh))
        seen = self._see(variables, images, sizes)
        parts = jax.device_put(np.split(seeds, seeds.shape[1] // _PLANES, axis=1), split(self._mesh))
        return _Running(items, [self._carry(part, seen, sizes) for part in parts])

    def _counted(self, function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def traced(*arguments: Any) -> jax.Array:
            self.compiled += 1  # runs when traced only
            return function(*arguments)

        return traced


def _collect(batch: _Running) -> list[ImageMaps | Refused]:
    scores = np.concatenate([np.asarray(part) for part in batch.scores], axis=1)
    return [
        item if isinstance(item, Refused) else _walked(item, scores[i]) for i, item in enumerate(batch.items)
    ]


def _walked(item: WalkInput, scores: np.ndarray) -> ImageMaps:
    class_ids, seeds = item.seeds
    count, h, w = seeds.shape
    return ImageMaps(item.image_id, ClassMaps(class_ids, scores[:count, :h, :w].copy()))
