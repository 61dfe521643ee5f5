"""Where training's numbers go: one line on the screen, `train.jsonl`, and TensorBoard where wanted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from wsss_jax.errors import ConfigError
from wsss_jax.files import append_line, write_whole

_FEWEST_LINES = 20  # of a training that is long enough


def log_interval(wanted: int, total_steps: int) -> int:
    """Steps between log lines: those wanted, or fewer where a short training would have no curve."""
    return max(1, min(wanted, total_steps // _FEWEST_LINES))


class MetricWriter:
    """Appends a JSON object per line; entries of steps that a resumed run repeats are dropped first."""

    def __init__(self, folder: str | Path, from_step: int, tensorboard: bool = False) -> None:
        """Keeps the entries up to `from_step`; RunError if the folder cannot be written."""
        self._path = Path(folder) / "train.jsonl"
        self._active = jax.process_index() == 0
        self._board = None
        if not self._active:
            return
        kept = [line for line in read_lines(self._path) if line["step"] <= from_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self._path, lambda file: file.write(text.encode()))
        self._board = _summary_writer(folder, from_step) if tensorboard else None

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds the values of a step; of several hosts, only the first writes."""
        if not self._active:
            return
        append_line(self._path, json.dumps({"step": step, **values}))
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._board is not None:
            self._board.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a `train.jsonl`; a last line that a kill cut short is left out."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _summary_writer(folder: str | Path, from_step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "config.log.tensorboard=True needs tensorboardX; pip install 'wsss-jax[tensorboard]'"
        ) from error
    return SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=from_step + 1)
