"""Running a function on many items in threads or in worker processes, with results in order.

The worker processes are plain Python processes that talk through pipes. Unlike `multiprocessing`'s they do
not import the caller's main script again, so they stay free of JAX and scripts need no `__main__` guard; when
one dies, the item that it was working on is known; and none outlives its parent.
"""

import collections
import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from multiprocessing import connection
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from wsss_jax.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CLOSE_SECONDS = 2.0
_SILENT_SECONDS = 60.0  # after which it is told that a worker does not answer; it may be stopped
_MAX_DEFAULT_THREADS = 16
# A worker is one of many: each starting as many BLAS threads as there are cores would only cost memory.
_WORKER_ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


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
) -> Iterator[Result]:
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
        self._pickled = pickle.dumps(function) if workers else None
        self._describe = describe
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._closed = False
        self._executor = futures.ThreadPoolExecutor(self.size, thread_name_prefix="wsss-data")

    def submit(self, item: Item) -> "futures.Future[Result]":
        """Begins work on an item; the future's result is the function's, or raises what it raised."""
        return self._executor.submit(self._run, item)

    def close(self) -> None:
        """Ends threads and workers; items not yet begun are cancelled. Can be called again."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.wait()
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, item: Item) -> Result:
        if self._pickled is None:
            return self._function(item)
        try:
            worker = self._worker(self._pickled)
            return worker.call(pickle.dumps(item, pickle.HIGHEST_PROTOCOL), self._describe(item))
        except WorkerDiedError as e:
            self._local.worker = None
            if self._closed:
                raise futures.CancelledError from e
            raise DataError(
                f"{self._describe(item)}: the loader worker that was working on it {e}; "
                "if memory ran out, use fewer workers"
            ) from e

    def _worker(self, pickled: bytes) -> "Worker":
        """Returns the calling thread's own worker, started when it is first needed."""
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            with self._lock:
                if self._closed:
                    raise futures.CancelledError
                worker = Worker()
                self._workers.append(worker)
            worker.call(pickled, "the start")
            self._local.worker = worker
        return worker


class WorkerDiedError(Exception):
    """A worker process ended before it answered; the message says how it ended."""


class Worker:
    """One worker process; used by one thread at a time."""

    def __init__(self) -> None:
        """Starts the process with this one's module search path."""
        start = f"import sys; sys.path[:] = {sys.path!r}; from wsss_jax.data.worker import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_WORKER_ENV, **os.environ},
            start_new_session=True,  # an interrupt from the keyboard goes to the parent alone
        )

    def call(self, pickled: bytes, what: str) -> Any:
        """Sends the function or an item and returns its result, or raises what it raised.

        Says once, on standard error, when there is no answer for long; `what` is being worked on.

        Raises:
            WorkerDiedError: the process ended instead of answering.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        message = pickle.dumps(pickled)
        try:
            self._process.stdin.write(message)
            self._process.stdin.flush()
            self._await(what)
            succeeded, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as e:
            raise WorkerDiedError(self._how_it_ended()) from e
        if not succeeded:
            raise answer
        return answer

    def _await(self, what: str) -> None:
        assert self._process.stdout is not None
        if not connection.wait([self._process.stdout.fileno()], _SILENT_SECONDS):
            print(
                f"{what}: the loader worker that is working on it, process {self._process.pid}, has not "
                f"answered for {_SILENT_SECONDS:g} s; if it is stopped, kill -CONT or -KILL ends the wait",
                file=sys.stderr,
                flush=True,
            )

    def stop(self) -> None:
        """Asks the process to end after the item that it is working on."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Waits for the process's end, and ends it by force when that takes too long."""
        assert self._process.stdout is not None
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "stopped answering"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"
