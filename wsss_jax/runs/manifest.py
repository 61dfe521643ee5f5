"""manifest.json: with what a run was made, and every start of it: command, commit, date, duration, end."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import wsss_jax
from wsss_jax.errors import RunError
from wsss_jax.files import read_json, write_json

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "scikit-learn")
_GIT_SECONDS = 10


def begin(path: Path) -> None:
    """Writes the versions and devices of now, and adds a start to those that the file has already.

    A start has `command`, `commit` (or None), `date` (ISO 8601), `seconds`, and `end`: 'done', why it ended
    otherwise, or None as long as it runs and where it was killed.
    """
    start = {
        "command": command(sys.orig_argv),
        "commit": commit(),
        "date": _now().isoformat(timespec="seconds"),
    }
    starts = [*read(path).get("starts", ()), {**start, "seconds": 0.0, "end": None}]
    write_json(path, {**_versions(), "starts": starts})


def keep_time(path: Path, end: str | None = None) -> None:
    """Sets the seconds of the last start to those since it began, and how it ended."""
    manifest = read(path)
    if manifest.get("starts"):
        last = manifest["starts"][-1]
        last["seconds"] = round((_now() - datetime.fromisoformat(last["date"])).total_seconds(), 1)
        last["end"] = end
        write_json(path, manifest)


def read(path: Path, warn: Callable[[str], Any] = print) -> dict[str, Any]:
    """The manifest; {} where there is none, or where it is damaged, which is told: only a report needs it."""
    if not path.exists():
        return {}
    try:
        return read_json(path, "the starts in it are left out")
    except RunError as error:
        warn(str(error))
        return {}


def seconds(manifest: Mapping[str, Any]) -> float:
    """How long the run was worked on, over all starts; what a killed start did after its last stage began is
    not known and not counted."""
    return sum(start["seconds"] for start in manifest.get("starts", ()))


def command(words: Sequence[str]) -> str:
    """The command line, quoted for a shell, with programs by their names."""
    program, *rest = words
    if rest and not rest[0].startswith("-"):  # a script, such as the console command
        program, *rest = rest
    return shlex.join([Path(program).name, *rest])


def commit(root: Path | None = None) -> str | None:
    """The commit of the clone that this program runs from, with '+' if files differ from it; None outside a
    clone."""
    root = Path(wsss_jax.__file__).parents[1] if root is None else root
    if not (root / ".git").exists():
        return None
    try:
        found = _git(root, "rev-parse", "HEAD").strip()
        return found + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # no git here, or it does not trust the folder
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", root, *arguments], capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
    )
    return done.stdout


def _now() -> datetime:
    return datetime.now().astimezone()


def _versions() -> dict[str, Any]:
    return {
        "wsss_jax": wsss_jax.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
    }
