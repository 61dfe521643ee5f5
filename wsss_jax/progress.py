"""One line that says how far long work is and how long it still takes."""

import sys
import time
from typing import TextIO


class Progress:
    """Rewrites its line on a terminal; in a log file it adds a line now and then.

    The rate is that of the work since the start of this process, so that a resumed run is not too hopeful.
    """

    def __init__(
        self, name: str, total: int, done: int = 0, unit: str = "images", stream: TextIO | None = None
    ):
        """`done` of `total` units are there already."""
        self._name, self._total, self._unit = name, total, unit
        self._done = self._first = done
        self._stream = stream or sys.stdout
        self._start = self._shown = time.monotonic()
        self._terminal = self._stream.isatty()

    def update(self, done: int, text: str = "", force: bool = False) -> None:
        """Shows the line, at most twice a second on a terminal and every 10 s elsewhere unless `force` is
        set."""
        self._done = done
        now = time.monotonic()
        if force or now - self._shown >= (0.5 if self._terminal else 10) or done >= self._total:
            self._shown = now
            self._write(self.line(now, text))

    def line(self, now: float, text: str = "") -> str:
        """Such as 'train 120/400 steps  loss 0.31  41.2 images/s  ETA 0:02:10'."""
        rate = self.rate(now)
        eta = _clock((self._total - self._done) / rate) if rate > 0 else "-"
        parts = [
            f"{self._name} {self._done}/{self._total} {self._unit}",
            text or f"{rate:.1f}/s",
            f"ETA {eta}",
        ]
        return "  ".join(parts)

    def rate(self, now: float | None = None) -> float:
        """Units per second of this process."""
        elapsed = (time.monotonic() if now is None else now) - self._start
        return (self._done - self._first) / elapsed if elapsed > 0 else 0.0

    def end(self) -> None:
        """Leaves the line on a terminal."""
        if self._terminal:
            print(file=self._stream)

    def _write(self, line: str) -> None:
        print(
            f"\r\033[K{line}" if self._terminal else line,
            end="" if self._terminal else "\n",
            file=self._stream,
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"
