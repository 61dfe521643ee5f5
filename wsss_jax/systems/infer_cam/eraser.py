"""InferCam over a list of images: a queue of crops, each with its own number of iterations, in full batches.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022. A crop is asked for its maps up to five times, each time without what was found
before; how often is known only on the way. So every batch takes crops of one bucket as they wait, whatever
their images and iterations; a crop that is done makes room for another.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.pool import map_ordered
from wsss_jax.inference.buckets import plan_buckets, scaled, smallest_bucket
from wsss_jax.inference.predict import InferenceSettings, one_behind, pad
from wsss_jax.method import Method
from wsss_jax.systems.infer_cam.crops import Box, Crops, CropViews
from wsss_jax.systems.infer_cam.iterations import (
    CropBatch,
    Iteration,
    IterationProgram,
    Size,
    nearest_chain,
)
from wsss_jax.systems.infer_cam.settings import ErasingRule
from wsss_jax.task import Variables


@dataclass(frozen=True)
class CropPlan:
    """What is to be done for one image.

    Attributes:
      image_id: of the image.
      size: its (H, W).
      keys: its classes, ascending.
      boxes: its crops; the same box counts once.
    """

    image_id: str
    size: Size
    keys: tuple[int, ...]
    boxes: tuple[Box, ...]

    @property
    def different(self) -> tuple[Box, ...]:
        """The boxes without repetitions; none if there is no class to look for."""
        return tuple(dict.fromkeys(self.boxes)) if self.keys else ()

    @property
    def whole(self) -> Box:
        """The whole image as a crop."""
        return Box(0, self.size[0], 0, self.size[1])


class Response(NamedTuple):
    """The result for one image."""

    image_id: str
    maps: ClassMaps  # 0..1
    erased: dict[Box, tuple[float, ...]]  # of each different crop: the share newly erased by each iteration


@dataclass(eq=False)
class _Crop:
    """A crop on its way through the iterations."""

    plan: CropPlan
    box: Box
    views: list[np.ndarray]
    best: np.ndarray  # float32[K, h, w]
    left: int  # pixels not erased
    erased: list[float] = field(default_factory=list)

    def take(self, best: np.ndarray, left: int) -> None:
        """Goes on to the state after an iteration."""
        height, width = self.box.size
        self.erased.append((self.left - left) / (height * width))
        self.best, self.left = best, left

    def done(self, rule: ErasingRule) -> bool:
        return len(self.erased) >= rule.iterations or (
            bool(self.erased) and self.erased[-1] < rule.min_erased_fraction
        )


class Eraser:
    """Computes InferCam's maps; its compiled programs serve any number of lists with the same buckets."""

    def __init__(
        self,
        method: Method,
        mesh: Mesh,
        settings: InferenceSettings,
        rule: ErasingRule,
        plans: Sequence[CropPlan],
    ) -> None:
        """Plans buckets for the crops of all images of a list.

        Args:
          method: whose network is asked.
          mesh: the devices.
          settings: scales, flips, batch size, and the number of buckets for crops.
          rule: when to erase and to stop.
          plans: of the whole list, so that a resumed run has the same buckets.
        """
        self.program = IterationProgram(
            method, mesh, flip=settings.flip, erase_threshold=rule.erase_threshold
        )
        self._settings, self._rule = settings, rule
        self._width = max((len(plan.keys) for plan in plans), default=1) or 1
        sizes = [box.size for plan in plans for box in plan.different]
        self.buckets = plan_buckets(sizes, settings.max_buckets)
        self._rows = {bucket: settings.rows(bucket, mesh.size) for bucket in self.buckets}

    def respond(
        self,
        variables: Variables,
        crops: Crops,
        plans: Sequence[CropPlan],
        initial: Callable[[str], np.ndarray],
    ) -> Iterator[list[Response]]:
        """Yields the results of images as they are done, in an order that only the list decides.

        Args:
          variables: of the network.
          crops: of the images.
          plans: what is to be done.
          initial: the initial CAMs float32[K, H, W] of an image. They are the first iteration of a crop that
            is the whole image, where crops are not changed on the way.
        """
        canvases = {plan.image_id: _Canvas(plan) for plan in plans}
        yield [canvas.response() for canvas in canvases.values() if canvas.complete]
        asking = [plan for plan in plans if plan.different]
        waiting = self._crops(crops, asking, initial)
        for crop in self._work(self.program.place(variables), waiting):
            canvas = canvases[crop.plan.image_id]
            canvas.paste(crop)
            if canvas.complete:
                yield [canvases.pop(crop.plan.image_id).response()]

    def _crops(
        self, crops: Crops, plans: Sequence[CropPlan], initial: Callable[[str], np.ndarray]
    ) -> Iterator[_Crop]:
        """Every crop before its first iteration, or after it where the initial CAMs were that."""
        jobs = [(plan.image_id, plan.boxes) for plan in plans]
        load = CropViews(crops, self._settings.scales)
        images = map_ordered(load, jobs, workers=self._settings.workers, threads=self._settings.threads)
        for plan, views in zip(plans, images, strict=True):
            for box, of_crop in zip(plan.different, views, strict=True):
                height, width = box.size
                zeros = np.zeros((len(plan.keys), height, width), np.float32)
                crop = _Crop(plan, box, of_crop, zeros, height * width)
                if box == plan.whole and crops.exact:
                    best = initial(plan.image_id)
                    crop.take(best, int((best.max(0) < self._rule.erase_threshold).sum()))
                yield crop

    def _work(self, variables: Variables, crops: Iterator[_Crop]) -> Iterator[_Crop]:
        """Takes crops as they come and yields each when it is done.

        Only full batches run while there are more crops, and at most two at a time: the devices have one to
        compute while the host looks at the other.
        """
        queue = _Queue(self._rows, self._rule)
        while True:
            for taken, after in one_behind(self._started(variables, crops, queue)):
                self._collect(taken, after, queue)
                yield from queue.take_done()
            yield from queue.take_done()
            if not queue.waiting:
                return

    def _started(
        self, variables: Variables, crops: Iterator[_Crop], queue: "_Queue"
    ) -> Iterator[tuple[list[_Crop], Iteration]]:
        """Starts batches as long as they are full; without new crops, one in any case."""
        begun = False
        for crop in crops:
            queue.put(crop)
            while queue.full:
                begun = True
                yield self._start(variables, queue)
        if queue.waiting and not begun:
            yield self._start(variables, queue)
        while queue.full:
            yield self._start(variables, queue)

    def _start(self, variables: Variables, queue: "_Queue") -> tuple[list[_Crop], Iteration]:
        bucket, taken = queue.take()
        return taken, self.program.advance(variables, self._batch(bucket, taken), bucket)

    def _collect(self, crops: list[_Crop], after: Iteration, queue: "_Queue") -> None:
        """Waits for an iteration and puts its crops back."""
        best, left = np.asarray(after.best), np.asarray(after.left)
        for i, crop in enumerate(crops):
            height, width = crop.box.size
            crop.take(best[i, : len(crop.best), :height, :width].copy(), int(left[i]))
            queue.put(crop, first=True)

    def _batch(self, bucket: Size, crops: Sequence[_Crop]) -> CropBatch:
        """Puts crops into arrays of their bucket's size."""
        scales, rows = self._settings.scales, self._rows[bucket]
        views, keys = [crop.views for crop in crops], [crop.plan.keys for crop in crops]
        images = pad(views, keys, bucket, scales, rows, self._width)
        best = np.zeros((rows, self._width, *bucket), np.float32)
        chains = tuple(
            tuple(np.zeros((rows, scaled(bucket, scale)[axis]), np.int32) for scale in scales)
            for axis in range(2)
        )
        for i, crop in enumerate(crops):
            height, width = crop.box.size
            best[i, : len(crop.best), :height, :width] = crop.best
            for axis in range(2):
                chain = nearest_chain(crop.box.size[axis], [view.shape[axis] for view in crop.views[:-1]])
                for whole, places in zip(chains[axis], chain, strict=True):
                    whole[i, : len(places)] = places
        arrays: Any = (images, best, *chains)
        return CropBatch(*arrays)


class _Queue:
    """Crops that wait for their next iteration, by bucket, and those that are done."""

    def __init__(self, rows: Mapping[Size, int], rule: ErasingRule) -> None:
        """`rows` of a batch of each bucket, by ascending area; `rule` says when a crop is done."""
        self._done: list[_Crop] = []
        self._rule = rule
        self._waiting: dict[Size, collections.deque[_Crop]] = {b: collections.deque() for b in rows}
        self._rows = rows

    @property
    def waiting(self) -> bool:
        """Whether there is any crop."""
        return any(self._waiting.values())

    @property
    def full(self) -> bool:
        """Whether the crops of some bucket fill a batch."""
        return any(len(crops) >= self._rows[bucket] for bucket, crops in self._waiting.items())

    def put(self, crop: _Crop, *, first: bool = False) -> None:
        """Adds a crop; what has begun comes first, so that few images are half done at a time."""
        if crop.done(self._rule):
            self._done.append(crop)
            return
        crops = self._waiting[smallest_bucket(crop.box.size, list(self._waiting))]
        crops.appendleft(crop) if first else crops.append(crop)

    def take_done(self) -> list[_Crop]:
        """Those that are done, once."""
        done, self._done = self._done, []
        return done

    def take(self) -> tuple[Size, list[_Crop]]:
        """The largest full batch; without any, the largest crops, and smaller ones in the rows left over."""
        by_size = list(reversed(self._waiting.items()))
        for bucket, crops in by_size:
            if len(crops) >= self._rows[bucket]:
                return bucket, [crops.popleft() for _ in range(self._rows[bucket])]
        bucket = next(bucket for bucket, crops in by_size if crops)
        taken: list[_Crop] = []
        for _, crops in by_size:
            for crop in [crop for crop in crops if _fits(crop, bucket)][: self._rows[bucket] - len(taken)]:
                crops.remove(crop)
                taken.append(crop)
        return bucket, taken


def _fits(crop: _Crop, bucket: Size) -> bool:
    return crop.box.size[0] <= bucket[0] and crop.box.size[1] <= bucket[1]


class _Canvas:
    """An image's maps, as its crops are pasted in."""

    def __init__(self, plan: CropPlan) -> None:
        self._plan = plan
        self._cam: np.ndarray | None = None
        self._erased: dict[Box, tuple[float, ...]] = {}

    @property
    def complete(self) -> bool:
        """Whether all crops are there."""
        return len(self._erased) == len(self._plan.different)

    def paste(self, crop: _Crop) -> None:
        """Keeps the larger score of each pixel."""
        if self._cam is None:
            self._cam = self._empty()
        place = self._cam[:, crop.box.top : crop.box.bottom, crop.box.left : crop.box.right]
        np.maximum(place, crop.best, out=place)
        self._erased[crop.box] = tuple(crop.erased)

    def response(self) -> Response:
        """The result; zero where no crop reaches."""
        cam = self._empty() if self._cam is None else self._cam
        maps = ClassMaps(np.array(self._plan.keys, np.int32), cam)
        return Response(self._plan.image_id, maps, self._erased)

    def _empty(self) -> np.ndarray:
        return np.zeros((len(self._plan.keys), *self._plan.size), np.float32)
