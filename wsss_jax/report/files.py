"""Writing files whole or not at all."""

import os
import threading
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file under a temporary name beside its place, then renames it; creates missing folders.

    A reader never sees half a file, and a failed write leaves what was there before. Raises OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
