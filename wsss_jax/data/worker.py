"""What runs in a loader's worker process: one function, called on each item that arrives on standard input.

A worker imports neither JAX nor Grain nor the caller's main script. It ends when its standard input does, so
that it cannot outlive the process that started it, however that one ended.
"""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

_PARENT_CHECK_SECONDS = 1.0


def main() -> None:
    """Serves items until standard input ends; started by `pool.Worker`, not by users."""
    # The parent decides what an interrupt means; a worker that died of it first would look like a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    items, results = _take_over_standard_streams()
    try:
        serve(items, results)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent is gone or has closed us: nothing left to flush or to tell


def serve(items: BinaryIO, results: BinaryIO) -> None:
    """Reads a function, then items; answers each by a pickled (True, result) or (False, error).

    Function and items come pickled twice, so that one that cannot be loaded does not break the stream. The
    function is answered by (True, None).

    Raises:
        EOFError: `items` has ended.
    """
    function: Callable[[Any], Any] | None = None
    while True:
        pickled = pickle.load(items)
        try:
            if function is None:
                function, result = _load(pickled), None
            else:
                result = function(_load(pickled))
            answer = pickle.dumps((True, result), pickle.HIGHEST_PROTOCOL)
        except BaseException as error:
            answer = pickle.dumps((False, _portable(error)), pickle.HIGHEST_PROTOCOL)
        results.write(answer)
        results.flush()


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


def _take_over_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Returns binary files for items and results; prints of the function's own go to standard error."""
    items, results = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return os.fdopen(items, "rb"), os.fdopen(results, "wb")


def _leave_with_parent(parent: int) -> None:
    """Ends the process when its parent is gone, also in the middle of an item.

    The end of standard input alone would not do: a process that the parent forked may hold the pipe open.
    """
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    sys.exit("this module is started by wsss_jax.data.pool")
