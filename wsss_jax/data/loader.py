"""Endless shuffled training batches, by Grain.

Grain settles the order, each sample's random numbers and how far to work ahead; `pool` does the work. The
stream is a function of the ids, the seed and the global batch size alone, not of the numbers of hosts,
workers and threads. A position in it is one integer, the number of batches taken.
"""

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from wsss_jax.data.pool import Pool
from wsss_jax.data.source import Source
from wsss_jax.data.transforms import Recipe, augment
from wsss_jax.errors import ConfigError, DataError

Sample = dict[str, np.ndarray]
MakeSample = Callable[[str, np.random.Generator], Sample]


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

    Each epoch is a new permutation of the ids, cut to whole global batches, as in the published systems. Host
    p of P gets rows [p * B, (p + 1) * B) of every global batch of P * B, so all hosts see equally many.

    Each batch holds what `make_sample` returns, stacked along a new first axis, and index int32[B], the
    samples' positions in the list of ids. Close the loader, or use it as a context manager, to end its
    threads and workers.

    Attributes:
        steps_per_epoch: batches in an epoch.
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
        self.steps_per_epoch = steps_per_epoch(len(ids), batch_size * process_count)
        self.position = start_batch
        task = _Task(make_sample, tuple(ids))
        pool = Pool(task, workers=workers, threads=threads, describe=task.describe)
        order = _order(len(ids), batch_size, seed, process_index, process_count)
        self._batches = _prefetched(order[start_batch:].map(_BatchMaker(pool)), prefetch)
        # The callback does not hold the loader: one that is dropped without being closed still ends its work.
        self._finalizer = weakref.finalize(self, _close, pool, self._batches)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sample:
        """Returns the next batch.

        Raises:
            DataError: an image or annotation is unusable, or a worker died; the loader is closed then.
        """
        if not self._finalizer.alive:
            raise ValueError("the loader is closed")
        try:
            batch: Sample = next(self._batches)
        except Exception:
            self.close()
            raise
        self.position += 1
        return batch

    def close(self) -> None:
        """Ends the loader's threads and workers; can be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TrainLoader(BatchLoader):
    """Endless iterator over augmented batches for classification.

    A batch is a dict: image uint8[B, c, c, 3], the crops; box int32[B, 4], where in the crop the picture
    lies (top, bottom, left, right; zeros outside); labels float32[B, C]; index int32[B], positions in ids.
    """

    def __init__(self, source: Source, ids: Sequence[str], recipe: Recipe, **options: Any) -> None:
        """Makes the loader.

        Args:
            source: the data set.
            ids: image ids, as of `source.ids(split)`.
            recipe: the augmentation.
            **options: `batch_size`, `seed` and the others of `BatchLoader`.
        """
        super().__init__(ClassificationSample(source, recipe), ids, **options)


@dataclasses.dataclass(frozen=True)
class _Task:
    """Makes the sample at (position in the ids, seed of its generator); sent once to each worker."""

    make_sample: MakeSample
    ids: tuple[str, ...]

    def __call__(self, item: tuple[int, int]) -> Sample:
        position, seed = item
        sample = self.make_sample(self.ids[position], np.random.default_rng(seed))
        return {**sample, "index": np.asarray(position, np.int32)}

    def describe(self, item: tuple[int, int]) -> str:
        return f"image {self.ids[item[0]]!r}"


@dataclasses.dataclass(frozen=True)
class _BatchMaker:
    """Has the pool make a batch's samples side by side and stacks them."""

    pool: Pool[tuple[int, int], Sample]

    def __call__(self, items: tuple[np.ndarray, np.ndarray]) -> Sample:
        pending = [self.pool.submit(item) for item in zip(*(a.tolist() for a in items), strict=True)]
        try:
            samples = [future.result() for future in pending]
        finally:
            for future in pending:
                future.cancel()
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}


def _order(num_images: int, batch_size: int, seed: int, process_index: int, process_count: int) -> Any:
    """Returns Grain's endless data set of one host's batches of (positions int[B], seeds int[B])."""
    import grain  # here, because it imports JAX, which importing this package must not

    _accept_unparsed_flags()
    images_used = num_images - num_images % (batch_size * process_count)
    return (
        grain.MapDataset.source(range(num_images))
        .seed(seed)
        .shuffle()[:images_used]
        .random_map(_draw_seed)
        .batch(batch_size, drop_remainder=True)[process_index::process_count]
        .repeat()
    )


def _draw_seed(position: int, rng: np.random.Generator) -> tuple[int, int]:
    return position, int(rng.integers(2**63))


def _prefetched(dataset: Any, prefetch: int) -> Any:
    """Returns an iterator that keeps `prefetch` batches in the making, by threads that wait for the pool."""
    import grain

    options = grain.ReadOptions(num_threads=prefetch, prefetch_buffer_size=prefetch)
    return iter(dataset.to_iter_dataset(options))


def _accept_unparsed_flags() -> None:
    """Lets Grain read its absl flags, at their defaults, where nobody parsed a command line (notebooks)."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _close(pool: Pool[Any, Any], batches: Any) -> None:
    pool.close()  # first: Grain's threads wait for its futures
    batches.close()
