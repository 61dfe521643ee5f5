"""absl flags whose errors fit on one line, and experiments by their names."""

import difflib
import inspect
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

from wsss_jax import experiments
from wsss_jax.commandline import STATUS
from wsss_jax.config import flatten
from wsss_jax.errors import ConfigError

_FILE_FIRST = "--config=NAME must come before any --config.KEY=VALUE"


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses absl flags; raises ConfigError with one line on what is wrong and what would be right.

    ml_collections reports a misspelt key as AttributeError or KeyError.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax logs some 60 lines per checkpoint at INFO
    argv = _with_path(argv)
    if _config_path(argv) and not Path(_config_path(argv)).is_file():
        raise ConfigError(_missing_file(_config_path(argv)))  # else only told when a setting is read
    try:
        return flags.FLAGS(list(argv))
    except flags.IllegalFlagValueError as error:
        raise ConfigError(_with_wanted_type(str(error), argv)) from error
    except flags.Error as error:
        raise ConfigError(_FILE_FIRST if _override_comes_first(argv) else str(error)) from error
    except (AttributeError, KeyError) as error:
        raise ConfigError(_unknown_key(argv) or str(error)) from error


def end_with_help(module: str) -> None:
    """Prints a module's docstring and flags and ends the program, if `--help` is among its arguments."""
    if {"-h", "-help", "--help"} & set(sys.argv[1:]):
        about = inspect.getdoc(sys.modules[module])
        print(f"{about}\n\nflags:\n{flags.FLAGS.module_help(module)}\n\n{STATUS}")
        sys.exit(0)


def _config_path(argv: Sequence[str]) -> str:
    """The value of --config=NAME or --config NAME; '' if there is none."""
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
    near = near or _by_initials(key, known)
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if not near:
        leaves = [name.rsplit(".", 1)[-1] for name in known]
        leaf = difflib.get_close_matches(key.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.5)
        near = [name for name, last in zip(known, leaves, strict=True) if last in leaf]
    if not near:
        return "docs/configuration.md lists all keys"
    near = sorted(near, key=lambda name: name.count("."))  # the most general first
    return f"did you mean {' or '.join(f'--config.{name}' for name in near)}?"


def _by_initials(key: str, known: Mapping[str, Any]) -> list[str]:
    """Keys whose last part has these initials, as learning_rate has those of lr; first the section's own."""
    section, _, short = key.rpartition(".")
    near = [name for name in known if "".join(re.findall(r"(?:^|_)(.)", name.rsplit(".", 1)[-1])) == short]
    near = near if len(short) > 1 else []
    return [name for name in near if name.startswith(f"{section}.")] or near


def _with_wanted_type(message: str, argv: Sequence[str]) -> str:
    message = message.splitlines()[0]
    match = re.search(r"--config\.([\w.]+)=", message)
    value = _known_keys(argv).get(match[1]) if match else None
    return message if value is None else f"{message}; wanted {type(value).__name__}, such as {value!r}"


def _with_path(argv: Sequence[str]) -> list[str]:
    """The command line with the file in place of an experiment's name."""
    name = _config_path(argv)
    if name not in experiments.names() or Path(name).is_file():
        return list(argv)
    path = str(experiments.path_of(name))
    place = next(i for i, arg in enumerate(argv) if re.match(r"--?config(=|$)", arg))
    if argv[place].endswith(f"={name}"):
        return [*argv[:place], f"--config={path}", *argv[place + 1 :]]
    return [*argv[: place + 1], path, *argv[place + 2 :]]


def _missing_file(path: str) -> str:
    """A path that does not exist, or a name that no experiment has."""
    folder, known = Path(path).parent, experiments.names()
    near = difflib.get_close_matches(Path(path).stem, known, n=1, cutoff=0.3)
    if Path(path).name == path and not path.endswith(".py"):
        hint = f"did you mean {near[0]}?" if near else "--list shows them"
        return f"--config={path}: there is no such experiment; {hint}"
    beside = [str(p) for p in sorted(folder.glob("*.py"))] if folder.is_dir() else []
    beside = difflib.get_close_matches(path, beside, n=1, cutoff=0.3)
    hint = "give an experiment's name, such as cse_voc, or the path of a file"
    if beside or near:
        hint = f"did you mean {beside[0] if beside else near[0]}?"
    return f"--config={path}: there is no such file; {hint}"
