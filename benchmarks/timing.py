"""Wall-clock times that can be compared: warm, taken in turns, reported with their spread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.row import Row


@dataclass(frozen=True)
class Times:
    """Seconds of the repetitions of one piece of work."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    def per_second(self, count: float, name: str, unit: str, **more: Any) -> Row:
        """A row that says how much of `count` is done per second; `more` is the row's rest."""
        low, high = count / max(self.seconds), count / min(self.seconds)
        return Row(name=name, value=count / self.median, unit=unit, low=low, high=high, **more)

    def row(self, name: str, **more: Any) -> Row:
        """A row of the seconds themselves."""
        low, high = min(self.seconds), max(self.seconds)
        return Row(name=name, value=self.median, unit="s", low=low, high=high, **more)


def seconds_of(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes; it must wait for its own result (`jax.block_until_ready`)."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(works: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Times several pieces of work in turns, A B A B ..., so that a busy spell of the machine hits them all.

    The first round warms up and does not count.
    """
    for work in works.values():
        work()
    rounds = [{name: seconds_of(work) for name, work in works.items()} for _ in range(repeats)]
    return {name: Times(tuple(seconds[name] for seconds in rounds)) for name in works}
