"""Stopping by SIGTERM or SIGINT at a place from which the run can go on."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

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


def stop_requested() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_requested)


def stop_here(saved: str) -> None:
    """Raises Interrupted if a stop was asked for; `saved` says how far the work is."""
    if _requested:
        raise Interrupted(f"{saved}; give the same command again to go on", _requested)
