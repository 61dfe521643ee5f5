"""The topics by name, and how their rows are gathered."""

import difflib
import importlib
import sys
import time
from collections.abc import Sequence

from benchmarks.row import Row, Settings
from wsss_jax.errors import ConfigError

# In this order: what runs in processes of its own comes before this process takes hold of an accelerator.
TOPICS = (
    "convert",
    "allocator",
    "loader",
    "evaluate",
    "crf",
    "walk",
    "infer",
    "features",
    "response",
    "train",
    "cpn",
    "pytorch",
)


def check_topics(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the topics in the order in which they run; ConfigError for a name that is none."""
    for name in names:
        if name not in TOPICS:
            near = difflib.get_close_matches(name, TOPICS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose of {','.join(TOPICS)}"
            raise ConfigError(f"--only={','.join(names)}: there is no topic {name!r}; {hint}")
    return tuple(topic for topic in TOPICS if not names or topic in names)


def measure(names: Sequence[str], settings: Settings) -> list[Row]:
    """Runs the topics, telling the standard error stream which one and how long it took."""
    result = []
    for name in names:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        start = time.perf_counter()
        result += convert_rows() if name == "convert" else _rows_of(name, settings)
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return result


def convert_rows() -> list[Row]:
    """The rows of `benchmarks.convert`, compared with `numpy.load`, which is the first of them."""
    from benchmarks import convert

    return [
        Row(
            name=row["operation"],
            value=row["seconds"],
            unit="s",
            low=row["seconds"],
            high=row["slowest"],
            ratio=1 / row["times_numpy"],
            versus="numpy.load",
            note=f"{row['bytes'] / 1e6:,.0f} MB, {row['peak_memory']:g} times that in memory",
        )
        for row in convert.rows()
    ]


def _rows_of(name: str, settings: Settings) -> list[Row]:
    rows: list[Row] = importlib.import_module(f"benchmarks.{name}").rows(settings)
    return rows
