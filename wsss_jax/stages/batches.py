"""Work through a plan of batches: results are written while the next batch is computed; stops are clean."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from wsss_jax.inference.predict import PlannedBatch
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress

Result = TypeVar("Result")
_WRITERS = 4


def write_batches(
    stage: str,
    batches: Sequence[PlannedBatch],
    todo: Sequence[PlannedBatch],
    results: Iterable[Sequence[Result]],
    write: Callable[[Result], None],
) -> float:
    """Writes each batch's results, in threads, and shows the progress.

    Args:
      stage: its name.
      batches: the whole plan.
      todo: those of it that are not done yet.
      results: of each batch of `todo`, in order, one result per image; computed as they are asked for.
      write: writes one result.

    Returns:
      Images per second.

    Raises:
      Interrupted: a signal asked to stop; what was computed is written.
    """
    total = count_images(batches)
    done = total - count_images(todo)
    line = Progress(stage, total, done)
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing: list[Future[None]] = []
        for batch in results:
            _finish(writing)
            writing = [pool.submit(write, result) for result in batch]
            done += len(batch)
            line.update(done)
            stop_here(f"{stage} has written {done} of {total} images")
        _finish(writing)
    line.end()
    return line.rate()


def count_images(batches: Iterable[PlannedBatch]) -> int:
    """Number of images in the batches."""
    return sum(len(batch.image_ids) for batch in batches)


def _finish(writing: Sequence[Future[None]]) -> None:
    for future in writing:
        future.result()
