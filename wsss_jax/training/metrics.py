"""Where training's numbers go: one line on the screen, `train.jsonl`, and TensorBoard where wanted."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from wsss_jax.errors import ConfigError
from wsss_jax.files import append_line, write_bytes

_FEWEST_LINES = 20  # of a training that is long enough


def log_interval(wanted: int, total_steps: int) -> int:
    """Steps between log lines: those wanted, or fewer where a short training would have no curve."""
    return max(1, min(wanted, total_steps // _FEWEST_LINES))


class MetricWriter:
    """Appends a JSON object per line, `crc32` of the others last; entries of steps that a resumed run repeats
    are dropped first."""

    def __init__(self, folder: str | Path, from_step: int, tensorboard: bool = False) -> None:
        """Keeps the entries up to `from_step`; RunError if the folder cannot be written."""
        self.folder = Path(folder)
        self._path = self.folder / "train.jsonl"
        self._active = jax.process_index() == 0
        self._board = None
        if not self._active:
            return
        kept = [line for line in read_lines(self._path) if line["step"] <= from_step]
        text = "".join(_line(entry) + "\n" for entry in kept)
        write_bytes(self._path, text.encode())
        self._board = _summary_writer(folder, from_step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds the values of a step; of several hosts, only the first writes."""
        if not self._active:
            return
        append_line(self._path, _line({"step": step, **values}))
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._board is not None:
            self._board.close()


def read_lines(path: Path, warn: Callable[[str], Any] = print) -> list[dict[str, Any]]:
    """The entries of a `train.jsonl`, without their checksums.

    Damaged lines are told of and left out, but for a last one that a kill cut short.
    """
    entries = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is not None:
            entries.append(entry)
        elif number < len(lines):
            warn(f"{path} line {number}: damaged, left out")
    return entries


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps({**entry, "crc32": _checksum(entry)})


def _entry(line: str) -> dict[str, Any] | None:
    """What `_line` was given; None if the line is not as it was written."""
    try:
        entry = json.loads(line)
        found = entry.pop("crc32")
    except (ValueError, AttributeError, KeyError, RecursionError):
        return None
    return entry if found == _checksum(entry) else None


def _checksum(entry: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits, whatever JSON can hold."""
    return f"{zlib.crc32(json.dumps(entry, sort_keys=True).encode()):08x}"


def _summary_writer(folder: str | Path, from_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "config.log.tensorboard=True needs tensorboardX; pip install 'wsss-jax[tensorboard]'"
        ) from error
    return SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=from_step + 1)
