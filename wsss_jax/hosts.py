"""Several hosts as one program: where one is asked to stop, fails or is lost, the others do not wait on.

JAX itself ends the others with a dump of its memory up to 100 s after one is lost, and never tells which. So
each host gives a sign every second where all can read it, in the store of JAX's coordinator.
"""

import collections
import contextlib
import ctypes
import itertools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed  # the store has no public name
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from wsss_jax.errors import Interrupted, UserError
from wsss_jax.interrupt import ask_to_stop, signal_received, stop_requested
from wsss_jax.sharding import replicated, split

_AHEAD = 2  # steps by which the count of votes may lag behind, so that none waits for it
_BEAT = 1.0  # seconds between two signs of a host
_LOST = 30.0  # seconds without a sign after which a host counts as lost
_COORDINATOR = b"coordination service"  # in what JAX prints when it has lost it


class StopVotes:
    """Whether to stop after a step, answered alike on all hosts, whichever of them was asked to stop."""

    def __init__(self, mesh: Mesh) -> None:
        """`mesh` holds all devices of all hosts."""
        self._mesh = mesh
        self._counts: collections.deque[jax.Array] = collections.deque()
        self._count = jax.jit(lambda votes: votes.any(), out_shardings=replicated(mesh))

    def agreed(self) -> bool:
        """To be asked after every step by every host; of several, all stop two steps after the first vote."""
        if jax.process_count() == 1:
            return stop_requested()
        own = np.full(len(self._mesh.local_devices), stop_requested())
        votes = jax.make_array_from_process_local_data(split(self._mesh), own)
        self._counts.append(self._count(votes))
        return len(self._counts) > _AHEAD and bool(self._counts.popleft())


def any_host(answer: bool) -> bool:
    """Whether any host says yes; all must ask, and wait for each other."""
    if jax.process_count() == 1:
        return answer
    return bool(multihost_utils.process_allgather(np.asarray(answer)).any())


def sum_over_hosts(counts: np.ndarray) -> np.ndarray:
    """Adds up int64 counts, each at least 0, over all hosts; all must ask, and wait for each other."""
    if jax.process_count() == 1:
        return counts
    halves = np.stack([counts >> 31, counts & 0x7FFFFFFF]).astype(np.int32)  # JAX has no int64
    high, low = multihost_utils.process_allgather(halves).astype(np.int64).sum(0)
    return (high << 31) + low


@contextlib.contextmanager
def together(log: Path) -> Iterator[None]:
    """Ends this host when another has failed or is lost, asks it to stop when another was asked, and tells
    the others of its own end.

    Args:
      log: file for what JAX's own threads would print, such as the dump when the coordinator is lost.
    """
    if jax.process_count() == 1:
        yield
        return
    _divert_native_messages(log)
    watch = _Watch(log)
    try:
        yield
    except Interrupted:
        raise  # on all hosts at once
    except BaseException as error:
        watch.fail(error)
    finally:
        watch.end()


class _Watch:
    """A thread that gives this host's signs and looks at those of the others."""

    def __init__(self, log: Path) -> None:
        self._log, self._said = log, _size(log)  # said in earlier starts
        self._client: Any = distributed.global_state.client
        self._own = str(jax.process_index())
        self._signs: dict[str, tuple[str, float]] = {}  # by host: the last sign and when it was seen first
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="hosts", daemon=True).start()

    def end(self) -> None:
        """Ends the thread."""
        self._ended.set()

    def fail(self, error: BaseException) -> NoReturn:
        """Prints the error, tells the others, and ends the program, which could only wait for them."""
        if isinstance(error, jax.errors.JaxRuntimeError):  # most often the consequence of another's end,
            time.sleep(_LOST + 5 * _BEAT)  # which the thread will have told by then
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        told = f"Error: {line}" if isinstance(error, UserError) else traceback.format_exc()
        print(told, file=sys.stderr, flush=True)
        self.end()  # that the others now end one by one is no news
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._set(f"failed/{self._own}", f"{socket.gethostname()} {line.splitlines()[0][:500]}")
            time.sleep(5 * _BEAT)  # the first host's store ends with it, and the others have to read it
        os._exit(1)

    def _watch(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            for beat in itertools.count():
                if not self._answered(pool.submit(self._look, beat)) and not self._ended.is_set():
                    _end(f"{self._name('0')} is lost: it does not answer any more")
                if self._ended.wait(_BEAT):
                    return

    def _answered(self, look: Future[None]) -> bool:
        """Waits for the coordinator, until JAX's own threads say that it is lost: see
        `_divert_native_messages`."""
        for _ in range(int(_LOST / _BEAT)):
            try:
                look.result(timeout=_BEAT)
                return True
            except jax.errors.JaxRuntimeError:
                return False
            except TimeoutError:
                if _size(self._log) > self._said and _COORDINATOR in self._log.read_bytes()[self._said :]:
                    return False
        return False

    def _look(self, beat: int) -> None:
        self._set(f"sign/{self._own}", f"{socket.gethostname()} {beat}")
        if stop_requested():
            self._set("stop/any", str(signal_received()))
        for key, value in self._client.key_value_dir_get("wsss_jax/"):
            _, kind, host = key.split("/")
            if kind == "stop":
                ask_to_stop(int(value))
            elif kind == "failed" and host != self._own:
                name, message = value.split(" ", 1)
                _end(f"host {host} ({name}) has ended: {message}")
            elif kind == "sign":
                self._note(host, value)

    def _note(self, host: str, sign: str) -> None:
        now = time.monotonic()
        if self._signs.get(host, ("", now))[0] != sign:
            self._signs[host] = sign, now
        elif now - self._signs[host][1] > _LOST and not self._ended.is_set():
            _end(f"{self._name(host)} is lost: it has given no sign for {_LOST:g} s")

    def _name(self, host: str) -> str:
        sign = self._signs.get(host, ("name unknown", 0.0))[0]
        return f"host {host} ({sign.rsplit(' ', 1)[0]})"

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(f"wsss_jax/{key}", value, allow_overwrite=True)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _end(reason: str) -> NoReturn:
    """Ends the program at once, since its main thread may be waiting for the lost host for ever."""
    print(f"Error: {reason}; give the same command again on all hosts to go on", file=sys.stderr, flush=True)
    os._exit(1)


def _divert_native_messages(log: Path) -> None:
    """JAX's own threads abort the program, with a dump, in the moment in which they lose the coordinator.

    What they print goes to a file, Python's messages to the screen as before; and the abort waits for as many
    seconds as SIGABRT's number, 6, which is enough for `_Watch` to tell in a line what has happened.
    """
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
            os.dup2(file.fileno(), 2)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
