"""Work through a plan of batches: results are written while the next batch is computed; stops are clean."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import jax

from wsss_jax.files import is_whole
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, plan_batches
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.runs.context import Run

Result = TypeVar("Result")
_WRITERS = 4


def own_batches(
    run: Run, ids: Sequence[str], settings: InferenceSettings, path: Callable[[str], Path]
) -> tuple[list[PlannedBatch], list[PlannedBatch]]:
    """This host's batches of a list, and those of them that are to do: that lack the `path` of an image."""
    batches = plan_batches(run.source, ids, settings, run.local_mesh.size)
    batches = batches[jax.process_index() :: jax.process_count()]
    return batches, [batch for batch in batches if not all(is_whole(path(i)) for i in batch.image_ids)]


def write_batches(
    stage: str,
    batches: Sequence[PlannedBatch],
    todo: Sequence[PlannedBatch],
    results: Iterable[Sequence[Result]],
    write: Callable[[Result], None],
) -> float:
    """`write_results` for a plan of batches, `todo` being those of it that are not done yet."""
    total = count_images(batches)
    return write_results(stage, total, total - count_images(todo), results, write)


def write_results(
    stage: str,
    total: int,
    done: int,
    results: Iterable[Sequence[Result]],
    write: Callable[[Result], None],
    note: Callable[[], str] | None = None,
) -> float:
    """Writes results, in threads, and shows the progress.

    Args:
      stage: its name.
      total: number of images.
      done: those of them that were done before.
      results: one for each of the other images, some at a time; computed as they are asked for.
      write: writes one result.
      note: what else the progress line should say.

    Returns:
      Images per second.

    Raises:
      Interrupted: a signal asked to stop; what was computed is written.
    """
    line = Progress(stage, total, done)
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing: list[Future[None]] = []
        for several in results:
            _finish(writing)
            writing = [pool.submit(write, result) for result in several]
            done += len(several)
            line.update(done, f"{line.rate():.1f}/s  {note()}" if note else "")
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
