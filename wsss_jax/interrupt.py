"""Stopping by SIGTERM or SIGINT at a place from which the run can go on."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from wsss_jax.errors import Interrupted

_requested = 0  # number of the signal that has asked to stop


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """The first SIGTERM or SIGINT only asks to stop; a second one ends the program at once, as usual."""
    global _requested
    _requested = 0  # an interrupted cell of a notebook may be run again
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        global _requested
        _requested = number
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ask_to_stop(number: int) -> None:
    """Asks as a signal would, here one that another host has received."""
    global _requested
    _requested = _requested or number


def stop_requested() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_requested)


def signal_received() -> int:
    """The number of the signal that has asked to stop, 0 if none has."""
    return _requested


def stop_here(saved: str) -> None:
    """Raises Interrupted if a stop was asked for; `saved` says how far the work is."""
    if _requested:
        stop(saved)


def stop(saved: str) -> NoReturn:
    """Raises Interrupted; `saved` says how far the work is."""
    raise Interrupted(f"{saved}; give the same command again to go on", _requested or signal.SIGTERM)
