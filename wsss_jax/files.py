"""Files that appear whole or not at all."""

import errno
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from wsss_jax.errors import RunError


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` on a temporary file beside `path` and renames it when it is complete.

    Raises:
      RunError: the folder is not writable or the disk is full; nothing is left behind.
    """
    path = Path(path)
    # Not one of tempfile's, which only the owner may read: the umask cannot be asked for without setting it,
    # which other threads would see.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(_explain(path, error)) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def file_name(name: str) -> str:
    """A name with what file systems refuse written as %XX, so that different names stay different."""
    return re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda match: f"%{ord(match[0]):02X}", name)


def append_line(path: str | Path, line: str) -> None:
    """Adds a line to a text file; RunError if the folder is not writable or the disk is full."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(_explain(path, error)) from error


def remove_temporary(folder: str | Path) -> None:
    """Removes what a killed run left half-written in a folder and those below it."""
    for path in Path(folder).rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _explain(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{path}: the disk is full; make room and give the same command again, it goes on from here"
    return f"{path}: cannot be written ({error.strerror}); choose a folder that is writable with --workdir"
