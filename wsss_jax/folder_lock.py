"""One program at a time in a run's folder."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wsss_jax.errors import RunError

try:
    import fcntl
except ImportError:  # Windows, where this package is not tested
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keeps a folder for this program; the system gives it back when the program ends, in whatever way.

    A file system without locks, and a folder that cannot be written, are no obstacle here. Nothing is left
    behind where nothing else was written.

    Raises:
      RunError: another program is at work there; names its process and host.
    """
    folder = Path(folder).expanduser().absolute()
    path, new = folder / ".lock", not folder.exists()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(_locked_file(path))
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}".encode())
            file.flush()
            stack.callback(_remove, path, folder if new else None)
        yield


def _locked_file(path: Path) -> BinaryIO:
    """The file, open and locked; OSError where there are no locks."""
    while True:
        file = path.open("a+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:  # else its holder has removed it since it was opened
                return file
        except BlockingIOError:
            file.close()
            raise RunError(
                f"{path.parent} is in use by {_holder(path)}; wait until it has ended, or choose another "
                "--workdir"
            ) from None
        except OSError:
            file.close()
            raise


def _holder(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:300] or "another program"
    except OSError:
        return "another program"


def _remove(path: Path, folder: Path | None) -> None:
    """Called while the lock is still held, so that it is this program's own file."""
    with contextlib.suppress(OSError):
        path.unlink()
        if folder is not None:
            folder.rmdir()  # fails where anything was written
