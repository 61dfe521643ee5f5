"""Running a function on many items in threads or in worker processes, with results in order."""

import collections
import itertools
import os
import pickle
import queue
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from types import TracebackType
from typing import Generic, Self, TypeVar

from wsss_jax.data.worker import Worker

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_DEFAULT_THREADS = 16


def default_threads() -> int:
    """Returns how many threads to use unless told: the cores that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_DEFAULT_THREADS)


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 0,
    threads: int | None = None,
    prefetch: int | None = None,
    describe: Callable[[Item], str] = repr,
) -> Generator[Result, None, None]:
    """Yields `function(item)` for each item, in order, working ahead of the consumer.

    Args:
        function: with workers, it must be picklable, as must items and results.
        items: may be endless; read only as far ahead as `prefetch`.
        workers: number of worker processes; 0 works in threads of this process.
        threads: number of threads if there are no workers; by default, the number of usable cores.
        prefetch: how many items are begun but not yet consumed; by default, twice the workers or threads.
        describe: how to name an item in the message about a worker that died.

    Raises:
        DataError: a worker died. Errors of `function` itself come out unchanged.
    """
    with Pool(function, workers=workers, threads=threads, describe=describe) as pool:
        depth = max(1, 2 * pool.size if prefetch is None else prefetch)
        rest = iter(items)
        pending = collections.deque(pool.submit(item) for item in itertools.islice(rest, depth))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(item) for item in itertools.islice(rest, 1))
            yield result


class Pool(Generic[Item, Result]):
    """Threads, each of which calls a function itself or has a worker process of its own call it.

    Attributes:
        size: how many items are worked on at a time.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        *,
        workers: int = 0,
        threads: int | None = None,
        describe: Callable[[Item], str] = repr,
    ) -> None:
        """Makes the pool; workers start with the first items (see `map_ordered` for the arguments)."""
        if workers < 0 or (threads is not None and threads < 1):
            raise ValueError(f"workers must be 0 or more and threads 1 or more, not {workers} and {threads}")
        self.size = workers or threads or default_threads()
        self._function = function
        pickled = pickle.dumps(function) if workers else b""
        self._workers = [Worker(pickled, describe) for _ in range(workers)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._executor = futures.ThreadPoolExecutor(self.size, thread_name_prefix="wsss-data")
        # Closes a pool that nobody closes: when it is dropped, or before the interpreter takes itself apart.
        self._finalizer = weakref.finalize(self, _close, self._executor, self._workers)

    def submit(self, item: Item) -> "futures.Future[Result]":
        """Begins work on an item; the future's result is the function's, or raises what it raised."""
        return self._executor.submit(self._by_worker if self._workers else self._function, item)

    def close(self) -> None:
        """Ends threads and workers, also busy ones; waiting items are cancelled. Can be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _by_worker(self, item: Item) -> Result:
        worker = self._idle.get()
        try:
            result: Result = worker.call(item)
            return result
        finally:
            self._idle.put(worker)


def _close(executor: futures.ThreadPoolExecutor, workers: list[Worker]) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()
    executor.shutdown(wait=True)
