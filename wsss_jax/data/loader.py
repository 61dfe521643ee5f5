"""Endless shuffled training batches.

The stream is a function of the ids, the seed and the global batch size alone, not of the numbers of hosts,
workers and threads: the seed and the epoch decide the order of the images, and with an image's index its
sample's random numbers. A position in the stream is one integer, the number of batches taken.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from wsss_jax.data.pool import map_ordered
from wsss_jax.data.source import Source
from wsss_jax.data.transforms import Recipe, augment
from wsss_jax.errors import ConfigError, DataError

Sample = dict[str, np.ndarray]
Item = tuple[int, int, bool]  # epoch, index of the image, whether the sample counts
MakeSample = Callable[[str, np.random.Generator], Sample]


def groups_per_epoch(num_images: int, group: int) -> int:
    """Returns the number of groups of images in an epoch, an incomplete last one counted."""
    return -(-num_images // group)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Returns floor(num_images / batch_size): the last incomplete batch of an epoch is dropped.

    Raises:
        DataError: there are fewer images than one batch needs.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}, but must be at least 1")
    if num_images < batch_size:
        raise DataError(
            f"{num_images} images do not fill one batch of {batch_size}; "
            "lower batch_size or use a larger split"
        )
    return num_images // batch_size


@dataclasses.dataclass(frozen=True)
class ClassificationSample:
    """Makes the training sample of an image with its image-level labels.

    Called with an image id and a random generator, it returns image uint8[c, c, 3], box int32[4] and labels
    float32[C] (see `transforms.random_crop` for the box).

    Attributes:
        source: the data set.
        recipe: the augmentation.
        vectors: further entries of the sample: name -> image id -> the image's vector, which becomes float32.
    """

    source: Source
    recipe: Recipe
    vectors: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def __call__(self, image_id: str, rng: np.random.Generator) -> Sample:
        """Returns the sample."""
        image, box = augment(self.source.image(image_id), rng, self.recipe)
        further = {name: of_image[image_id].astype(np.float32) for name, of_image in self.vectors.items()}
        return {"image": image, "box": box, "labels": self.source.labels(image_id), **further}


class BatchLoader(Iterator[Sample]):
    """Endless iterator over training batches of any kind of sample.

    Each epoch is a new permutation of the ids, cut to whole global batches, as in most published systems.
    Where incomplete groups of images are kept (DeepLab-v2's sub-batches of 5), the epochs follow each other
    group by group instead, and a batch may have groups of two epochs. Host p of P gets rows [p * B,
    (p + 1) * B) of every global batch of P * B, so all hosts see equally many.

    Each batch holds what `make_sample` returns, stacked along a new first axis, and index int32[B], the
    samples' positions in the list of ids, or -1 for those that only fill an incomplete group. Close the
    loader, or use it as a context manager, to end its threads and workers.

    Attributes:
        steps_per_epoch: batches in an epoch; 0 where batches have groups of two.
        position: number of batches taken so far, counted from the beginning of the stream: give it to a new
            loader as `start_batch` to go on from here.
    """

    def __init__(
        self,
        make_sample: MakeSample,
        ids: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        start_batch: int = 0,
        workers: int = 0,
        threads: int | None = None,
        prefetch: int = 3,
        process_index: int = 0,
        process_count: int = 1,
        kept_group: int = 0,
    ) -> None:
        """Makes the loader; work begins with the first batch asked for.

        Args:
            make_sample: called with an image id and a generator of its own; picklable if there are workers.
            ids: image ids, in the order that `index` refers to.
            batch_size: rows per batch on this host.
            seed: 0 to 2**32 - 1; decides the order and each sample's generator.
            start_batch: number of batches to skip, at no cost.
            workers: number of worker processes; 0 works in threads of this process.
            threads: number of threads if there are no workers; by default, the number of usable cores.
            prefetch: number of batches made ahead.
            process_index: this host's number.
            process_count: number of hosts.
            kept_group: images of a group whose last one in an epoch is kept when it is incomplete; 0 drops
                the last incomplete global batch.

        Raises:
            DataError: too few images for one global batch.
        """
        if not 0 <= process_index < process_count:
            raise ValueError(f"process_index {process_index} is not in [0, {process_count})")
        if start_batch < 0 or prefetch < 1:
            raise ValueError(
                f"start_batch is {start_batch} and prefetch is {prefetch}, must be 0 and 1 or more"
            )
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed is {seed}, but must lie in [0, 2**32 - 1]")
        self.steps_per_epoch = 0 if kept_group else steps_per_epoch(len(ids), batch_size * process_count)
        place = (len(ids), batch_size, seed, start_batch, process_index, process_count)
        self.position = start_batch
        self._batch_size = batch_size
        task = _Task(make_sample, tuple(ids), seed)
        self._samples = map_ordered(
            task,
            grouped_order(*place, group=kept_group) if kept_group else _counting(sample_order(*place)),
            workers=workers,
            threads=threads,
            prefetch=prefetch * batch_size,
            describe=task.describe,
        )

    def __next__(self) -> Sample:
        """Returns the next batch.

        Raises:
            DataError: an image or annotation is unusable, or a worker died; the loader is closed then.
        """
        samples = list(itertools.islice(self._samples, self._batch_size))
        if not samples:
            raise ValueError("the loader is closed")
        self.position += 1
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}

    def close(self) -> None:
        """Ends the loader's threads and workers; can be called again."""
        self._samples.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sample_order(
    num_images: int,
    batch_size: int,
    seed: int,
    start_batch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[int, int]]:
    """Yields (epoch, index of the image) of one host's samples, endlessly; see `BatchLoader`."""
    batches = steps_per_epoch(num_images, batch_size * process_count)
    first_epoch, first_batch = divmod(start_batch, batches)
    for epoch in itertools.count(first_epoch):
        order = _generator(seed, epoch).permutation(num_images)
        for batch in range(first_batch, batches):
            start = (batch * process_count + process_index) * batch_size
            yield from ((epoch, index) for index in order[start : start + batch_size].tolist())
        first_batch = 0


def grouped_order(
    num_images: int,
    batch_size: int,
    seed: int,
    start_batch: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    *,
    group: int,
) -> Iterator[Item]:
    """The same where the last group of an epoch is kept: (epoch, index, whether the sample counts).

    It is filled up to its size by images of the same epoch that do not.
    """
    place = (start_batch * process_count + process_index) * batch_size
    per_epoch = groups_per_epoch(num_images, group) * group
    known, order = -1, np.zeros(0, np.int64)
    while True:
        for row in range(place, place + batch_size):
            epoch, i = divmod(row, per_epoch)
            if epoch != known:
                known, order = epoch, _generator(seed, epoch).permutation(num_images)
            yield epoch, int(order[i % num_images]), i < num_images
        place += batch_size * process_count


def _counting(order: Iterator[tuple[int, int]]) -> Iterator[Item]:
    return ((epoch, index, True) for epoch, index in order)


def _generator(seed: int, *path: int) -> np.random.Generator:
    """Random numbers of an epoch's order (epoch) or of one of its samples (epoch, index of the image)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


@dataclasses.dataclass(frozen=True)
class _Task:
    """Makes the sample of an image in an epoch; sent once to each worker."""

    make_sample: MakeSample
    ids: tuple[str, ...]
    seed: int

    def __call__(self, item: Item) -> Sample:
        epoch, index, counts = item
        sample = self.make_sample(self.ids[index], _generator(self.seed, epoch, index))
        return {**sample, "index": np.asarray(index if counts else -1, np.int32)}

    def describe(self, item: Item) -> str:
        return f"image {self.ids[item[1]]!r}"
