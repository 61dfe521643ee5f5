"""A worker process: a plain Python interpreter that calls one function on what comes through a pipe.

The processes of `multiprocessing` and `concurrent.futures` would import the caller's main script again, JAX
included, and a pool of them that breaks does not tell which item broke it. These stay free of JAX, need no
`__main__` guard in scripts and notebooks, and none outlives its parent.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from wsss_jax.errors import DataError

_SILENT_SECONDS = 60.0  # after which it is told that a worker does not answer; it may be stopped
_PARENT_CHECK_SECONDS = 1.0
# A worker is one of many: each starting as many BLAS threads as there are cores would only cost memory.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Worker:
    """The parent's end of a worker process, which starts with the first item and anew where it has died."""

    def __init__(self, function: bytes, describe: Callable[[Any], str]) -> None:
        """`function` is pickled; `describe` names an item in messages."""
        self._function = function
        self._describe = describe
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, item: Any) -> Any:
        """Returns what the function returns, or raises what it raises; for one thread at a time.

        Says once, on standard error, when there is no answer for long.

        Raises:
            DataError: the process died; the message names the item.
        """
        messages = [pickle.dumps(item)]
        if self._process is None:
            self._start()
            messages.insert(0, self._function)
        try:
            for message in messages:
                self._connection.send_bytes(message)
            if not self._connection.poll(_SILENT_SECONDS):
                self._tell_of_silence(item)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError) as e:
            raise DataError(
                f"{self._describe(item)}: the loader worker that was working on it {self._end()}; "
                "if memory ran out, use fewer workers"
            ) from e
        succeeded, result = pickle.loads(answer)
        if not succeeded:
            raise result
        return result

    def kill(self) -> None:
        """Ends the process at once, if there is one; a thread that waits for its answer gets a DataError."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()

    def _start(self) -> None:
        """Starts the process with this one's module search path."""
        self._connection, theirs = multiprocessing.Pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**_ENVIRONMENT, **os.environ},
                start_new_session=True,  # an interrupt from the keyboard goes to the parent alone
            )

    def _tell_of_silence(self, item: Any) -> None:
        assert self._process is not None
        worker = f"the loader worker that is working on it, process {self._process.pid}"
        print(
            f"{self._describe(item)}: {worker}, has not answered for {_SILENT_SECONDS:g} s; "
            "if it is stopped, kill -CONT or -KILL ends the wait",
            file=sys.stderr,
            flush=True,
        )

    def _end(self) -> str:
        """Waits for the process, which has closed its end of the pipe, and says how it ended."""
        assert self._process is not None
        process, self._process = self._process, None
        status = process.wait()
        return (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )


def serve(pipe: int) -> None:
    """What a worker process runs: receives a function, then items, until the pipe's other end is closed.

    Answers each item by a pickled (True, result) or (False, error).
    """
    # The parent decides what an interrupt means; a worker that died of it first would look like a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    with contextlib.suppress(EOFError, OSError), Connection(pipe) as connection:
        pickled, function = connection.recv_bytes(), None
        while True:
            item = connection.recv_bytes()
            try:
                function = function or _load(pickled)
                answer = pickle.dumps((True, function(_load(item))), pickle.HIGHEST_PROTOCOL)
            except BaseException as error:
                answer = pickle.dumps((False, _portable(error)))
            connection.send_bytes(answer)
    os._exit(0)  # the parent is gone: nothing left to flush or to tell


def _load(pickled: bytes) -> Any:
    try:
        return pickle.loads(pickled)
    except AttributeError as e:
        raise RuntimeError(
            f"{e}: what runs in a loader worker must be importable from a module; "
            "move it out of the main script or notebook, or use workers=0"
        ) from e


def _portable(error: BaseException) -> BaseException:
    """Returns the error with its traceback as a note; one that cannot be pickled becomes a RuntimeError."""
    trace = "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # anything can go wrong in a foreign exception's own pickling
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In a loader worker:\n{trace}")
    return error


def _leave_with_parent(parent: int) -> None:
    """Ends the process when its parent is gone, also in the middle of an item.

    The pipe's end alone would not do: a process that the parent forked may hold it open.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(0)
