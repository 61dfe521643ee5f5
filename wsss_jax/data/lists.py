"""Lists of image ids: reading, checking, naming and hashing them."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from wsss_jax.errors import DataError


def read_lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Returns (line number from 1, stripped text) of a text file's lines that are not blank.

    Raises:
        DataError: the file is missing or is not UTF-8 text.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as e:
        raise DataError(f"no such file: {os.fspath(path)}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{os.fspath(path)} is not UTF-8 text (byte {e.start}); save it as UTF-8") from e
    except OSError as e:
        raise DataError(f"cannot read {os.fspath(path)}: {e.strerror or e}") from e
    # Not splitlines(), which also splits at form feeds and other rare characters of file names.
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def check_ids(ids: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns the ids as a tuple after checking that there are some, all different and safe as file names.

    Args:
        ids: image ids in order.
        where: what the ids come from, for the message.
    """
    if not ids:
        raise DataError(f"{where} lists no image; write one image id a line")
    seen: set[str] = set()
    for image_id in ids:
        check_id(image_id, where)
        if image_id in seen:
            raise DataError(
                f"{where}: image id {image_id!r} is listed more than once; remove the repeated line"
            )
        seen.add(image_id)
    return tuple(ids)


def check_id(image_id: str, where: str) -> None:
    """Raises DataError unless the id can name an output file below a folder: relative, without '..'."""
    parts = image_id.split("/")
    if image_id.startswith("/") or ".." in parts or "." in parts or "" in parts:
        raise DataError(
            f"{where}: image id {image_id!r} must be a relative path without '.', '..' and empty parts"
        )
    if "\\" in image_id or not image_id.isprintable() or image_id != image_id.strip():
        raise DataError(
            f"{where}: image id {image_id!r} has a backslash, a control character or a space at its end; "
            "rename the file"
        )


def is_list_path(split: str) -> bool:
    """Whether a split is given as the path of a text file rather than by its name."""
    return split.endswith(".txt") or "/" in split or os.sep in split


def split_name(split: str) -> str:
    """Returns a split's name for folders and reports: the name itself, or the stem of a list file's path."""
    return PurePosixPath(split.replace(os.sep, "/")).stem if is_list_path(split) else split


def sha256(ids: Sequence[str]) -> str:
    """Returns the hex SHA-256 of a list of ids, which tells whether two scores are of the same images."""
    return hashlib.sha256("".join(f"{image_id}\n" for image_id in ids).encode()).hexdigest()
