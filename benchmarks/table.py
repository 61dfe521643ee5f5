"""The rows as a table to read, which is Markdown, and as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.row import Row, Settings

_HEADER = ("measurement", "median", "lowest to highest", "ratio", "against", "note")


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a Markdown table with aligned columns."""
    lines = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def describe(facts: Mapping[str, Any]) -> str:
    """Returns 'name: value' pairs in one line."""
    return "; ".join(f"{name}: {value}" for name, value in facts.items())


def document(
    rows: Sequence[Row], settings: Settings, machine: Mapping[str, Any], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Returns everything as JSON values."""
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "settings": dataclasses.asdict(settings),
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def number(value: float) -> str:
    """Three significant digits, without exponent where the number is large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(row: Row) -> tuple[str, ...]:
    spread = "" if row.low is None or row.high is None else f"{number(row.low)} to {number(row.high)}"
    ratio = "" if row.ratio is None else f"{number(row.ratio)}x"
    return row.name, f"{number(row.value)} {row.unit}".rstrip(), spread, ratio, row.versus, row.note
