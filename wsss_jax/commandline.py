"""How a command starts and how it ends: one line where it cannot go on, and a status that says why.

Imports nothing heavy: what a command needs is imported by `run_command`, so that Ctrl-C ends that in one line
as well.
"""

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from wsss_jax import __version__
from wsss_jax.errors import Interrupted, UserError

STATUS = "Exit status: 0 done, 1 error, 128 + n stopped by signal n (130 Ctrl-C, 143 SIGTERM)."
_CTRL_C = "Stopped by Ctrl-C."


def run_command(door: str) -> NoReturn:
    """Imports a command, runs it with the arguments of the program, and ends the program.

    Args:
      door: module and function, such as 'wsss_jax.main:command'.
    """
    if sys.argv[1:] == ["--version"]:
        print(f"wsss_jax {__version__}")
        sys.exit(0)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, _on_ctrl_c)
    module, _, function = door.partition(":")
    with one_line_errors():
        getattr(importlib.import_module(module), function)()
    sys.exit(0)


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt as usual but while something is imported, when it ends the program at once.

    Nothing is lost by then, and extensions in C that are just being loaded print a KeyboardInterrupt and make
    an ImportError of it.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(sys.stderr.fileno(), f"{_CTRL_C}\n".encode())
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with one line instead of a traceback where a user can mend things (status 1, flags 2).

    A program that a signal has stopped ends with status 128 + its number, as if the signal had ended it, also
    where it has saved its place: what comes after it in a script is not to start on half of the work.
    """
    try:
        yield
    except Interrupted as stop:
        print(f"Stopped: {stop}", file=sys.stderr)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        print(_CTRL_C, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
