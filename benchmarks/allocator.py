"""A network's forward pass on CPUs, with freed memory kept by the process and with it handed back.

What is set for a process stays set, so each measurement is a process of its own; both kinds take turns.
"""

import json
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.networks import method_of, prepare_jax, random_variables
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, seconds_of

_SIDE = 512  # of the images, in pixels; on the other topics' small ones it would matter less
_CALLS = 5
_KEPT, _BACK = "memory kept", "memory handed back"
_NOT_PADDED: Any = None
_Run = dict[str, float]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures; for either kind a row of seconds per call and one of the process's peak memory."""
    settings = settings or Settings()
    found: dict[str, list[_Run]] = {_KEPT: [], _BACK: []}
    for _ in range(settings.repeats):
        for kind, runs in found.items():
            runs.append(_in_a_process(kind, settings))
    times = {kind: Times(tuple(run["seconds"] for run in runs)) for kind, runs in found.items()}
    peak = {kind: statistics.median(run["peak"] for run in runs) for kind, runs in found.items()}
    note = {kind: _note(settings, runs) for kind, runs in found.items()}
    name, memory = "forward pass", "forward pass, peak memory"
    faster, smaller = times[_BACK].median / times[_KEPT].median, peak[_BACK] / peak[_KEPT]
    return [
        times[_KEPT].row(f"{name}, {_KEPT}", ratio=faster, versus=_BACK, note=note[_KEPT]),
        times[_BACK].row(f"{name}, {_BACK}", note=note[_BACK]),
        Row(name=f"{memory}, {_KEPT}", value=peak[_KEPT], unit="MB", ratio=smaller, versus=_BACK),
        Row(name=f"{memory}, {_BACK}", value=peak[_BACK], unit="MB"),
    ]


def _note(settings: Settings, runs: list[_Run]) -> str:
    share = 100 * statistics.median(run["system"] for run in runs)
    size = f"width {settings.width:g}, {settings.batch_size} image(s) of {_SIDE}"
    return f"{size}; system time is {share:.0f} % of user time"


def _in_a_process(kind: str, settings: Settings) -> _Run:
    given = (kind, settings.width, json.dumps(settings.blocks), settings.batch_size, _SIDE)
    command = [sys.executable, "-m", "benchmarks.allocator", *map(str, given)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: _Run = json.loads(done.stdout)
    return result


def measure(kind: str, settings: Settings, side: int) -> _Run:
    """Median seconds of a call, system time over user time of all calls, and this process's peak in MB."""
    prepare_jax(settings, keep_memory=kind == _KEPT)
    method = method_of(settings, "cam")
    variables = jax.device_put(random_variables(method))
    images = np.random.default_rng(0).standard_normal((settings.batch_size, side, side, 3), np.float32)
    score = jax.jit(lambda variables, images: method.cam(variables, images, _NOT_PADDED).maps)
    jax.block_until_ready(score(variables, images))
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = [seconds_of(lambda: jax.block_until_ready(score(variables, images))) for _ in range(_CALLS)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    system, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
    # Not getrusage's maximum, which a large parent process passes on.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    megabytes = int(peak[1]) * 1024 / 1e6 if peak else float("nan")
    return {"seconds": statistics.median(seconds), "system": system / max(user, 1e-3), "peak": megabytes}


if __name__ == "__main__":
    _kind, _width, _blocks, _batch_size, _side = sys.argv[1:]
    _settings = Settings(width=float(_width), blocks=json.loads(_blocks), batch_size=int(_batch_size))
    print(json.dumps(measure(_kind, _settings, int(_side))))
