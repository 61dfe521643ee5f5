"""CAM inference over a list of images: loader, compiled programs and results in a steady stream."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.pool import map_ordered
from wsss_jax.data.source import Source
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import ConfigError
from wsss_jax.inference.buckets import Size, plan_buckets, scaled, smallest_bucket
from wsss_jax.inference.multiscale import CamProgram, Cams, PaddedBatch
from wsss_jax.task import CamRule, Variables

Item = TypeVar("Item")
_USUAL_AREA = 512 * 512  # pixels; batches of larger images have fewer of them, for memory's sake


@dataclass(frozen=True, kw_only=True)
class InferenceSettings:
    """How CAMs are computed; the names are those of the configuration's section `cam`."""

    scales: tuple[float, ...]
    flip: bool
    class_filter: str  # 'given' image-level labels | 'predicted': positive logits, or the best one | 'all'
    batch_size: int  # images per batch on this host; fewer of large images
    max_buckets: int
    workers: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.class_filter not in ("given", "predicted", "all"):
            raise ConfigError(f"class_filter is {self.class_filter!r}: must be 'given', 'predicted' or 'all'")
        if self.max_buckets < 1 or self.batch_size < 1:
            raise ConfigError(
                f"max_buckets {self.max_buckets}, batch_size {self.batch_size}: must be at least 1"
            )

    def images(self, bucket: Size, devices: int) -> int:
        """How many images of a bucket a batch has: as many pixels as the batch size of usual ones, or one
        image per device."""
        fitting = self.batch_size * _USUAL_AREA // (bucket[0] * bucket[1])
        return min(self.batch_size, max(fitting, devices))

    def rows(self, bucket: Size, devices: int) -> int:
        """The same, rounded up to a multiple of the devices."""
        return -(-self.images(bucket, devices) // devices) * devices


class Prediction(NamedTuple):
    """The class activation maps of one image."""

    image_id: str
    maps: ClassMaps  # 0..1, at the image's size
    logits: np.ndarray  # float32[C], mean over scales and flips
    reduced: ClassMaps | None = None  # 0..1, at the stride `CamRule.reduced`, if there is one


class PlannedBatch(NamedTuple):
    """Images that share a bucket."""

    bucket: Size
    image_ids: tuple[str, ...]


def plan_batches(
    source: Source, image_ids: Sequence[str], settings: InferenceSettings, devices: int = 1
) -> list[PlannedBatch]:
    """Divides the list into batches of one bucket each, biggest bucket first, for this host's devices.

    The plan depends on the whole list and not on what is done already: a resumed run computes the very same
    batches, so its files are the same to the last bit. The biggest comes first because it shows at once
    whether memory suffices.
    """
    sizes = [source.size(image_id) for image_id in image_ids]
    buckets = plan_buckets(sizes, settings.max_buckets)
    members: dict[Size, list[str]] = {bucket: [] for bucket in reversed(buckets)}
    for image_id, size in zip(image_ids, sizes, strict=True):
        members[smallest_bucket(size, buckets)].append(image_id)
    return [
        PlannedBatch(bucket, tuple(chunk))
        for bucket, ids in members.items()
        for chunk in _chunks(ids, settings.images(bucket, devices))
    ]


class Predictor:
    """Computes CAMs batch by batch; its compiled programs serve any number of lists."""

    def __init__(self, method: CamRule, mesh: Mesh, settings: InferenceSettings) -> None:
        """The batch size is rounded up to a multiple of the mesh's devices."""
        self.program = CamProgram(method, mesh, flip=settings.flip)
        self._settings, self._devices, self._reduced = settings, mesh.size, method.reduced

    def predict(
        self,
        variables: Variables,
        source: Source,
        batches: Sequence[PlannedBatch],
        classes: Mapping[str, Sequence[int]] | None = None,
    ) -> Iterator[list[Prediction]]:
        """Yields the predictions of each batch, in order.

        Args:
          variables: of all networks.
          source: reads the images.
          batches: from `plan_batches`, possibly fewer.
          classes: the classes of each image for class_filter 'given'.
        """
        variables = self.program.place(variables)
        padded = padded_batches(source, batches, self._settings, self._devices, classes)
        started = ((batch, p, self.program(variables, p, batch.bucket)) for batch, p in padded)
        yield from (self._collect(*item) for item in one_behind(started))

    def _collect(self, batch: PlannedBatch, padded: PaddedBatch, cams: Cams) -> list[Prediction]:
        sizes, classes, logits = map(np.asarray, (padded.original, padded.classes, cams.logits))
        kept = [self._kept(classes[i], logits[i]) for i in range(len(batch.image_ids))]

        def maps_of(planes: Any, stride: int) -> list[ClassMaps]:
            planes, ends = np.asarray(planes), -(-sizes // stride)
            return [
                ClassMaps(classes[i, chosen], planes[i, chosen, : ends[i, 0], : ends[i, 1]].copy())
                for i, chosen in enumerate(kept)
            ]

        several = cams.reduced is not None
        reduced = maps_of(cams.reduced, self._reduced) if several else [None] * len(kept)
        return list(map(Prediction, batch.image_ids, maps_of(cams.maps, 1), logits, reduced))

    def _kept(self, classes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Which rows of an image's maps are wanted: bool[K]."""
        if self._settings.class_filter == "predicted":
            return logits > 0 if (logits > 0).any() else logits == logits.max()
        return classes >= 0


def padded_batches(
    source: Source,
    batches: Sequence[PlannedBatch],
    settings: InferenceSettings,
    devices: int,
    classes: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[tuple[PlannedBatch, PaddedBatch]]:
    """Reads, rescales and pads the images of each batch, working ahead of the consumer.

    Args:
      source: reads the images.
      batches: from `plan_batches`, possibly fewer.
      settings: scales, rows, and how to work ahead.
      devices: that share a batch.
      classes: those whose maps are wanted, by image; None stands for all.
    """
    every = range(len(source.classes))
    width = len(every) if classes is None else max((len(c) for c in classes.values()), default=1)
    load = functools.partial(load_scaled, source, settings.scales)
    flat = [image_id for batch in batches for image_id in batch.image_ids]
    images = map_ordered(load, flat, workers=settings.workers, threads=settings.threads)
    for batch in batches:
        views = list(itertools.islice(images, len(batch.image_ids)))
        wanted = [every if classes is None else classes[i] for i in batch.image_ids]
        rows = settings.rows(batch.bucket, devices)
        yield batch, pad(views, wanted, batch.bucket, settings.scales, rows, max(width, 1))


def one_behind(started: Iterable[Item]) -> Iterator[Item]:
    """Yields each item once the next one is started: devices compute that one while the host takes this."""
    waiting: list[Item] = []
    for item in started:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def load_scaled(source: Source, scales: Sequence[float], image_id: str) -> list[np.ndarray]:
    """Reads an image and resizes it to every scale: uint8[round(H * s), round(W * s), 3] each.

    The original comes last, for its size.
    """
    image = source.image(image_id)
    return [rescale(image, scale) for scale in scales] + [image]


def pad(
    views: Sequence[Sequence[np.ndarray]],
    classes: Sequence[Sequence[int]],
    bucket: Size,
    scales: Sequence[float],
    rows: int,
    width: int,
) -> PaddedBatch:
    """Puts images into arrays of their bucket's size; missing rows are black images without classes."""
    images, sizes = [], []
    for s, scale in enumerate(scales):
        array = np.zeros((rows, *scaled(bucket, scale), 3), np.uint8)
        size = np.ones((rows, 2), np.int32)
        for i, image in enumerate(views):
            h, w = size[i] = image[s].shape[:2]
            array[i, :h, :w] = image[s]
        images.append(array)
        sizes.append(size)
    original = np.ones((rows, 2), np.int32)
    wanted = np.full((rows, width), -1, np.int32)
    for i, (image, present) in enumerate(zip(views, classes, strict=True)):
        original[i] = image[-1].shape[:2]
        wanted[i, : len(present)] = present
    arrays: Any = (tuple(images), tuple(sizes), original, wanted)
    return PaddedBatch(*arrays)


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
