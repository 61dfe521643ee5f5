"""Errors whose message is all a user needs: what was wrong, where, and what to do.

The commands print such a message as one line and exit with status 1; a traceback appears only for bugs.
"""

import signal

_LONGEST = 1 << 15  # characters of a message; every name of a large network's tensors fits


class UserError(Exception):
    """Something outside the program is wrong; the message names it and the remedy.

    Messages quote names that files and folders hold, which may be anything: as text they are one printable
    line of bounded length.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), _LONGEST)


class ConfigError(UserError, ValueError):
    """A configuration value or command-line override cannot be used."""


class DataError(UserError, ValueError):
    """A data set, a list of ids or one of its files cannot be used."""


class CheckpointError(UserError, ValueError):
    """A checkpoint or a foreign weight file cannot be used."""


class RunError(UserError, RuntimeError):
    """A run cannot go on: its folder, an earlier stage's result or its numbers are not usable."""


class Interrupted(Exception):
    """The run was asked to stop, has saved its place, and the message says how to go on."""

    def __init__(self, message: str, number: int = signal.SIGTERM) -> None:
        """`number` is the signal's, of whichever host has received one."""
        super().__init__(message)
        self.number = number


def printable(text: str, longest: int) -> str:
    r"""The text with what cannot be printed escaped (`\n`, `\udc80`), and without its middle if too long."""
    if len(text) > longest:
        half = (longest - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
