"""InferCam over a list of pictures: a queue of parts, each with its own number of rounds, in full batches.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022. A part is asked for its maps up to five times, each time without what was found
before; how often is known only on the way. So every batch takes parts of one bucket as they wait, whatever
their pictures and rounds; a part that is done makes room for another.
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
from wsss_jax.systems.infer_cam.crops import Box, Parts, PartViews
from wsss_jax.systems.infer_cam.iterations import (
    PartBatch,
    Round,
    RoundProgram,
    Size,
    nearest_chain,
)
from wsss_jax.systems.infer_cam.settings import ErasingRule
from wsss_jax.task import Variables


@dataclass(frozen=True)
class PartPlan:
    """What is to be done for one picture.

    Attributes:
      image_id: of the picture.
      size: its (H, W).
      keys: its classes, ascending.
      boxes: its parts; the same box counts once.
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
        """The whole picture as a part."""
        return Box(0, self.size[0], 0, self.size[1])


class Response(NamedTuple):
    """The result for one picture."""

    image_id: str
    maps: ClassMaps  # 0..1
    erased: dict[Box, tuple[float, ...]]  # of each different part: the share newly erased by each round


@dataclass(eq=False)
class _Part:
    """A part on its way through the rounds."""

    plan: PartPlan
    box: Box
    views: list[np.ndarray]
    best: np.ndarray  # float32[K, h, w]
    left: int  # pixels not erased
    erased: list[float] = field(default_factory=list)

    def take(self, best: np.ndarray, left: int) -> None:
        """Goes on to the state after a round."""
        height, width = self.box.size
        self.erased.append((self.left - left) / (height * width))
        self.best, self.left = best, left

    def done(self, rule: ErasingRule) -> bool:
        return len(self.erased) >= rule.rounds or (bool(self.erased) and self.erased[-1] < rule.enough)


class Eraser:
    """Computes InferCam's maps; its compiled programs serve any number of lists with the same buckets."""

    def __init__(
        self,
        method: Method,
        mesh: Mesh,
        settings: InferenceSettings,
        rule: ErasingRule,
        plans: Sequence[PartPlan],
    ) -> None:
        """Plans buckets for the parts of all pictures of a list.

        Args:
          method: whose network is asked.
          mesh: the devices.
          settings: scales, flips, batch size, and the number of buckets for parts.
          rule: when to erase and to stop.
          plans: of the whole list, so that a resumed run has the same buckets.
        """
        self.program = RoundProgram(method, mesh, flip=settings.flip, erase_from=rule.erase_from)
        self._settings, self._rule = settings, rule
        self._width = max((len(plan.keys) for plan in plans), default=1) or 1
        sizes = [box.size for plan in plans for box in plan.different]
        self.buckets = plan_buckets(sizes, settings.max_buckets)
        self._rows = {bucket: settings.rows(bucket, mesh.size) for bucket in self.buckets}

    def respond(
        self,
        variables: Variables,
        parts: Parts,
        plans: Sequence[PartPlan],
        baseline: Callable[[str], np.ndarray],
    ) -> Iterator[list[Response]]:
        """Yields the results of pictures as they are done, in an order that only the list decides.

        Args:
          variables: of the network.
          parts: of the pictures.
          plans: what is to be done.
          baseline: the plain maps float32[K, H, W] of a picture. They are the first round of a part that is
            the whole picture, where parts are not changed on the way.
        """
        canvases = {plan.image_id: _Canvas(plan) for plan in plans}
        yield [canvas.response() for canvas in canvases.values() if canvas.complete]
        asking = [plan for plan in plans if plan.different]
        waiting = self._parts(parts, asking, baseline)
        for part in self._work(self.program.place(variables), waiting):
            canvas = canvases[part.plan.image_id]
            canvas.paste(part)
            if canvas.complete:
                yield [canvases.pop(part.plan.image_id).response()]

    def _parts(
        self, parts: Parts, plans: Sequence[PartPlan], baseline: Callable[[str], np.ndarray]
    ) -> Iterator[_Part]:
        """Every part before its first round, or after it where the baseline was that."""
        jobs = [(plan.image_id, plan.boxes) for plan in plans]
        load = PartViews(parts, self._settings.scales)
        pictures = map_ordered(load, jobs, workers=self._settings.workers, threads=self._settings.threads)
        for plan, views in zip(plans, pictures, strict=True):
            for box, of_part in zip(plan.different, views, strict=True):
                height, width = box.size
                zeros = np.zeros((len(plan.keys), height, width), np.float32)
                part = _Part(plan, box, of_part, zeros, height * width)
                if box == plan.whole and parts.exact:
                    best = baseline(plan.image_id)
                    part.take(best, int((best.max(0) < self._rule.erase_from).sum()))
                yield part

    def _work(self, variables: Variables, parts: Iterator[_Part]) -> Iterator[_Part]:
        """Takes parts as they come and yields each when it is done.

        Only full batches run while there are more parts, and at most two at a time: the devices have one to
        compute while the host looks at the other.
        """
        queue = _Queue(self._rows, self._rule)
        while True:
            for taken, after in one_behind(self._started(variables, parts, queue)):
                self._collect(taken, after, queue)
                yield from queue.take_done()
            yield from queue.take_done()
            if not queue.waiting:
                return

    def _started(
        self, variables: Variables, parts: Iterator[_Part], queue: "_Queue"
    ) -> Iterator[tuple[list[_Part], Round]]:
        """Starts batches as long as they are full; without new parts, one in any case."""
        begun = False
        for part in parts:
            queue.put(part)
            while queue.full:
                begun = True
                yield self._start(variables, queue)
        if queue.waiting and not begun:
            yield self._start(variables, queue)
        while queue.full:
            yield self._start(variables, queue)

    def _start(self, variables: Variables, queue: "_Queue") -> tuple[list[_Part], Round]:
        bucket, taken = queue.take()
        return taken, self.program.advance(variables, self._batch(bucket, taken), bucket)

    def _collect(self, parts: list[_Part], after: Round, queue: "_Queue") -> None:
        """Waits for a round and puts its parts back."""
        best, left = np.asarray(after.best), np.asarray(after.left)
        for i, part in enumerate(parts):
            height, width = part.box.size
            part.take(best[i, : len(part.best), :height, :width].copy(), int(left[i]))
            queue.put(part, first=True)

    def _batch(self, bucket: Size, parts: Sequence[_Part]) -> PartBatch:
        """Puts parts into arrays of their bucket's size."""
        scales, rows = self._settings.scales, self._rows[bucket]
        views, keys = [part.views for part in parts], [part.plan.keys for part in parts]
        pictures = pad(views, keys, bucket, scales, rows, self._width)
        best = np.zeros((rows, self._width, *bucket), np.float32)
        chains = tuple(
            tuple(np.zeros((rows, scaled(bucket, scale)[axis]), np.int32) for scale in scales)
            for axis in range(2)
        )
        for i, part in enumerate(parts):
            height, width = part.box.size
            best[i, : len(part.best), :height, :width] = part.best
            for axis in range(2):
                chain = nearest_chain(part.box.size[axis], [view.shape[axis] for view in part.views[:-1]])
                for whole, places in zip(chains[axis], chain, strict=True):
                    whole[i, : len(places)] = places
        arrays: Any = (pictures, best, *chains)
        return PartBatch(*arrays)


class _Queue:
    """Parts that wait for their next round, by bucket, and those that are done."""

    def __init__(self, rows: Mapping[Size, int], rule: ErasingRule) -> None:
        """`rows` of a batch of each bucket, by ascending area; `rule` says when a part is done."""
        self._done: list[_Part] = []
        self._rule = rule
        self._waiting: dict[Size, collections.deque[_Part]] = {b: collections.deque() for b in rows}
        self._rows = rows

    @property
    def waiting(self) -> bool:
        """Whether there is any part."""
        return any(self._waiting.values())

    @property
    def full(self) -> bool:
        """Whether the parts of some bucket fill a batch."""
        return any(len(parts) >= self._rows[bucket] for bucket, parts in self._waiting.items())

    def put(self, part: _Part, *, first: bool = False) -> None:
        """Adds a part; what has begun comes first, so that few pictures are half done at a time."""
        if part.done(self._rule):
            self._done.append(part)
            return
        parts = self._waiting[smallest_bucket(part.box.size, list(self._waiting))]
        parts.appendleft(part) if first else parts.append(part)

    def take_done(self) -> list[_Part]:
        """Those that are done, once."""
        done, self._done = self._done, []
        return done

    def take(self) -> tuple[Size, list[_Part]]:
        """The largest full batch; without any, the largest parts, and smaller ones in the rows left over."""
        by_size = list(reversed(self._waiting.items()))
        for bucket, parts in by_size:
            if len(parts) >= self._rows[bucket]:
                return bucket, [parts.popleft() for _ in range(self._rows[bucket])]
        bucket = next(bucket for bucket, parts in by_size if parts)
        taken: list[_Part] = []
        for _, parts in by_size:
            for part in [part for part in parts if _fits(part, bucket)][: self._rows[bucket] - len(taken)]:
                parts.remove(part)
                taken.append(part)
        return bucket, taken


def _fits(part: _Part, bucket: Size) -> bool:
    return part.box.size[0] <= bucket[0] and part.box.size[1] <= bucket[1]


class _Canvas:
    """A picture's maps, as its parts are pasted in."""

    def __init__(self, plan: PartPlan) -> None:
        self._plan = plan
        self._cam: np.ndarray | None = None
        self._erased: dict[Box, tuple[float, ...]] = {}

    @property
    def complete(self) -> bool:
        """Whether all parts are there."""
        return len(self._erased) == len(self._plan.different)

    def paste(self, part: _Part) -> None:
        """Keeps the larger score of each pixel."""
        if self._cam is None:
            self._cam = self._empty()
        place = self._cam[:, part.box.top : part.box.bottom, part.box.left : part.box.right]
        np.maximum(place, part.best, out=place)
        self._erased[part.box] = tuple(part.erased)

    def response(self) -> Response:
        """The result; zero where no part reaches."""
        cam = self._empty() if self._cam is None else self._cam
        maps = ClassMaps(np.array(self._plan.keys, np.int32), cam)
        return Response(self._plan.image_id, maps, self._erased)

    def _empty(self) -> np.ndarray:
        return np.zeros((len(self._plan.keys), *self._plan.size), np.float32)
