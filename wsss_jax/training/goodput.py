"""What the time of a training went into."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


class Goodput:
    """Seconds by what they were spent on: compiling, waiting for data, saving, evaluating; the rest is steps.

    Attributes:
      busy: what the devices compute; until it is there, waiting for data costs nothing.
    """

    def __init__(self) -> None:
        """The clock starts."""
        self.busy: Any = None
        self._start = time.monotonic()
        self._seconds = dict.fromkeys(("compiling", "waiting for data", "saving", "evaluating"), 0.0)
        self._compiled = False

    @contextlib.contextmanager
    def spent(self, what: str) -> Iterator[None]:
        """Counts the time inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[what] += time.monotonic() - start

    def stepping(self) -> contextlib.AbstractContextManager[None]:
        """Around the call of a step, of which the first compiles."""
        first, self._compiled = not self._compiled, True
        return self.spent("compiling") if first else contextlib.nullcontext()

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Passes items on, and counts the time that they take while the devices have nothing to do."""
        iterator, end = iter(items), object()
        while True:
            idle = self.busy is None or self.busy.is_ready()
            with self.spent("waiting for data") if idle else contextlib.nullcontext():
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def shares(self) -> dict[str, float]:
        """Share of the time so far by what it was spent on; they add up to 1."""
        total = max(time.monotonic() - self._start, 1e-9)
        others = {what: seconds / total for what, seconds in self._seconds.items()}
        return {"steps": 1 - sum(others.values()), **others}

    def describe(self) -> str:
        """Such as 'steps 91 %, compiling 5 %, waiting for data 1 %, saving 1 %, evaluating 2 %'."""
        return ", ".join(f"{what} {100 * share:.0f} %" for what, share in self.shares().items())
