"""What the commands share: flags whose errors fit on one line, and a clean end."""

import contextlib
import difflib
import re
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

from wsss_jax.config import flatten
from wsss_jax.errors import ConfigError, Interrupted, UserError

_FILE_FIRST = "--config=FILE must come before any --config.KEY=VALUE"


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags; raises ConfigError with one line on what is wrong and what would be right.

    ml_collections reports a misspelt key as AttributeError or KeyError.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax logs some 60 lines per checkpoint at INFO
    if _config_path(argv) and not Path(_config_path(argv)).is_file():
        raise ConfigError(_missing_file(argv))  # else only told when a setting is read
    try:
        return flags.FLAGS(list(argv))
    except flags.IllegalFlagValueError as error:
        raise ConfigError(_with_wanted_type(str(error), argv)) from error
    except flags.Error as error:
        raise ConfigError(_FILE_FIRST if _override_comes_first(argv) else str(error)) from error
    except (AttributeError, KeyError) as error:
        raise ConfigError(_unknown_key(argv) or str(error)) from error


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with one line instead of a traceback where a user can mend things (status 1, flags 2).

    A run that was asked to stop and saved its place ends with status 0.
    """
    try:
        yield
    except Interrupted as stop:
        print(f"Stopped: {stop}", file=sys.stderr)
        sys.exit(0)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


def _config_path(argv: Sequence[str]) -> str:
    """The value of --config=FILE or --config FILE; '' if there is none."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        match = re.fullmatch(r"--?config(?:=(.*))?", arg)
        if match:
            return following if match[1] is None else match[1]
    return ""


def _override_comes_first(argv: Sequence[str]) -> bool:
    overrides = [i for i, arg in enumerate(argv) if re.match(r"--?(?:no)?config\.", arg)]
    return bool(overrides) and not _config_path(argv[: overrides[0]])


def _known_keys(argv: Sequence[str]) -> Mapping[str, Any]:
    path = _config_path(argv)
    return dict(flatten(runpy.run_path(path)["get_config"]())) if Path(path).is_file() else {}


def _unknown_key(argv: Sequence[str]) -> str | None:
    """The first --config.KEY that the file does not have, with the nearest that it has."""
    known = _known_keys(argv)
    for arg in argv:
        match = re.match(r"--?(?:no)?config\.([\w.]+)", arg)
        if match and match[1] not in known:
            where = _config_path(argv)
            return f"--config.{match[1]}: there is no such key in {where}; {_nearest(match[1], known)}"
    return None


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    """By the whole key, else by its last part, since users forget sections as often as they misspell."""
    near = [name for name in known if name.endswith(f".{key}")]  # the section only is missing
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if not near:
        leaves = [name.rsplit(".", 1)[-1] for name in known]
        leaf = difflib.get_close_matches(key.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.5)
        near = [name for name, last in zip(known, leaves, strict=True) if last in leaf]
    if not near:
        return "wsss_jax/config.py lists all keys"
    return f"did you mean {' or '.join(f'--config.{name}' for name in near)}?"


def _with_wanted_type(message: str, argv: Sequence[str]) -> str:
    message = message.splitlines()[0]
    match = re.search(r"--config\.([\w.]+)=", message)
    value = _known_keys(argv).get(match[1]) if match else None
    return message if value is None else f"{message}; wanted {type(value).__name__}, such as {value!r}"


def _missing_file(argv: Sequence[str]) -> str:
    path = Path(_config_path(argv))
    names = [str(p) for p in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}?" if near else "give the path of a file such as configs/cse_voc.py"
    return f"--config={path}: there is no such file; {hint}"
