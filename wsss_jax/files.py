"""Files that appear whole or not at all, and that tell when they are not as they were written."""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from wsss_jax.errors import RunError

# What begins so many bytes before the end: a zip archive's last record, PNG's last chunk, JPEG's last marker.
_ENDS = {".npz": (22, b"PK\x05\x06"), ".png": (8, b"IEND\xaeB`\x82"), ".jpg": (2, b"\xff\xd9")}


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


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file whole or not at all; errors as of `write_whole`."""
    write_whole(path, lambda file: file.write(content))


def is_whole(path: Path) -> bool:
    """Whether a file is there and ends as those of its kind do; its content is not read.

    What was cut off, emptied or never reached the disk is thus made again. Other damage shows when the file
    is read: .npz and .png files are under checksums.
    """
    length, end = _ENDS.get(path.suffix, (0, b""))
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - length))
            return size > 0 and file.read(length).startswith(end)
    except OSError:
        return False


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes indented JSON with its digest (see `sealed`), whole or not at all."""
    text = json.dumps(sealed(value), indent=2, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_json(path: Path, remedy: str, *, by_hand: bool = False) -> dict[str, Any]:
    """What `write_json` wrote.

    Args:
      path: the file.
      remedy: what to do where it is not as it was written, for the message.
      by_hand: a file without a digest, as people write it, is taken too.

    Raises:
      RunError: the file cannot be read, is cut off, or was changed.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged; {remedy}") from error
    if by_hand and isinstance(value, dict) and "sha256" not in value:
        return value
    if not is_sound(value):
        raise RunError(f"{path}: not as it was written, for its digest does not fit; {remedy}")
    return unsealed(value)


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values with their digest, by which `is_sound` notices damage, though not forgery."""
    value = unsealed(value)
    return {**value, "sha256": json_digest(value)}


def unsealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The values without the digest."""
    return {key: item for key, item in value.items() if key != "sha256"}


def is_sound(value: Any) -> bool:
    """Whether JSON values are as they were when they were sealed."""
    return isinstance(value, dict) and value.get("sha256") == json_digest(unsealed(value))


def json_digest(value: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of JSON values, whatever the order of their keys."""
    text = json.dumps(json.loads(json.dumps(value)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(name: str) -> str:
    """A name with what file systems refuse written as %XX, so that different names stay different."""
    return re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda match: f"%{ord(match[0]):02X}", name)


def append_line(path: str | Path, line: str) -> None:
    """Adds a line to a text file.

    Raises:
      RunError: the folder is not writable, the disk is full, or the folder around it, which is there when a
        run begins, was removed.
    """
    path = Path(path)
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: its folder was removed meanwhile; give the same command again to begin anew"
        ) from error
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
