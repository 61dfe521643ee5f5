#!/usr/bin/env python3
"""Sets the project up and runs it, from a fresh clone and from any folder.

    python3 run.py demo     train OC-CSE on drawn images and write a report
    python3 run.py test     run the tests
    python3 run.py setup    only install, into .venv beside this file

Arguments that are not listed below are handed on to the demo's program or to pytest. What was installed
before is used again as long as pyproject.toml, setup.py, constraints.txt and the Python version stay the
same. On Google Colab the runtime itself takes the place of .venv, so that its own build of JAX stays in use.

Needs Python 3.11 or newer and nothing else: only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST_PYTHON = (3, 11)
OTHER_PYTHONS = ("python3.12", "python3.11", "python3.13", "python3.14")
# Files are spread over processes, up to four: each test file keeps its costly fixtures to itself. They keep
# their order: by their numbers of tests, the few long ones of whole runs would come last, on one process.
TEST = ("-m", "pytest", "-n", "auto", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")
DEMO = ("-m", "wsss_jax.main", "--config=configs/cse_shapes.py", "--workdir=runs/demo")


class SetupError(Exception):
    """The project cannot be installed; the message says why and what to do."""


def main(argv: Sequence[str]) -> int:
    """Runs a command line (without the program's name) and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("command", choices=("demo", "test", "setup"))
    parser.add_argument("--accelerator", choices=("cuda", "tpu"), help="also install JAX's support for it")
    args, rest = parser.parse_known_args(argv)
    if args.command == "setup" and rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    extras = {args.accelerator} - {None} | (set() if args.command == "demo" else {"test"})
    try:
        python = set_up(extras)
    except SetupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the same command starts the installation again.", file=sys.stderr)
        return 130
    if args.command == "demo":
        return demo(python, rest)
    return run([python, *TEST, *rest]) if args.command == "test" else 0


def demo(python: str, rest: Sequence[str]) -> int:
    """Runs the demo, with further arguments for its program, and says where the report is."""
    status = run([python, *DEMO, *rest])
    report = (ROOT / workdir([*DEMO, *rest]) / "report" / "index.html").resolve()
    if status == 0 and report.is_file():
        print(f"\nReport: {report.as_uri()}")
    return status


def workdir(argv: Sequence[str]) -> str:
    """The last --workdir of a command line, given as one argument or as two."""
    folder = ""
    for i, arg in enumerate(argv):
        name, equals, value = arg.partition("=")
        if name in ("-workdir", "--workdir"):
            folder = value if equals else "".join(argv[i + 1 : i + 2])
    return folder


def run(command: Sequence[str]) -> int:
    """Runs a program in the project's folder and returns its exit status, 128 + n if signal n ended it.

    Ctrl-C reaches the program too; it may take its time to save its place, and is waited for.
    """
    child = subprocess.Popen(command, cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        try:
            status = child.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:
            continue


def set_up(extras: set[str]) -> str:
    """Installs what is missing and returns the Python that has the project.

    The record of what was done is removed first and written last, so that an interrupted installation is
    done again.
    """
    colab = on_colab()
    base = sys.executable if colab else find_python()
    python = base if colab else str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    stamp = (ROOT / "build" if colab else VENV) / "setup.json"
    wanted = fingerprint(base)
    had = read_stamp(stamp, wanted)
    if had is not None and extras <= had and Path(python).exists():
        return python
    start = time.monotonic()
    stamp.unlink(missing_ok=True)
    extras = extras | (had or set())
    if not colab:
        make_venv(base, python, keep=had is not None)
    install(python, extras, constrained=not colab)
    write_stamp(stamp, wanted, extras)
    print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    return python


def on_colab() -> bool:
    """Whether this is a Google Colab runtime."""
    if any(name.startswith("COLAB_") for name in os.environ):
        return True
    return (
        importlib.util.find_spec("google") is not None
        and importlib.util.find_spec("google.colab") is not None
    )


def find_python() -> str:
    """This Python, or another one on the PATH if this one is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for name in OTHER_PYTHONS:
        path = shutil.which(name)
        if path and version_of(path):
            print(f"Python {sys.version.split()[0]} is too old; using {path}.")
            return path
    raise SetupError(
        f"wsss_jax needs Python 3.11 or newer, but this is {sys.version.split()[0]} and there is no "
        "newer one on the PATH; install one, for example by: sudo apt install python3.11 python3.11-venv"
    )


def version_of(python: str) -> str:
    """A Python's version, such as '3.11.2'; '' if it cannot be run."""
    code = "import platform; print(platform.python_version())"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def fingerprint(python: str) -> str:
    """Hash of everything that an installation depends on: requirements, Python and where the project lies."""
    digest = hashlib.sha256(f"{version_of(python)}\n{sys.platform}\n{ROOT}\n".encode())
    for path in (ROOT / "pyproject.toml", ROOT / "setup.py", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp(stamp: Path, wanted: str) -> set[str] | None:
    """The extras that are installed, or None if nothing is or it was for other requirements."""
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(record, dict) and record.get("fingerprint") == wanted
    return set(record["extras"]) if same else None


def write_stamp(stamp: Path, wanted: str, extras: set[str]) -> None:
    """Records a complete installation; the file appears whole or not at all."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    partial = stamp.with_suffix(".partial")
    partial.write_text(json.dumps({"fingerprint": wanted, "extras": sorted(extras)}), encoding="utf-8")
    os.replace(partial, stamp)


def make_venv(base: str, python: str, keep: bool) -> None:
    """Makes .venv anew, unless it is to be kept and works."""
    if keep and version_of(python):
        return
    if subprocess.run([base, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        minor = ".".join(version_of(base).split(".")[:2])
        raise SetupError(
            f"{base} cannot make virtual environments; on Debian or Ubuntu run: "
            f"sudo apt install python{minor}-venv"
        )
    print(f"Making {VENV} with Python {version_of(base)}.", flush=True)
    if subprocess.run([base, "-m", "venv", "--clear", str(VENV)], check=False).returncode:
        raise SetupError(f"{base} could not make {VENV}; is the folder writable and the disk not full?")


def install(python: str, extras: set[str], constrained: bool) -> None:
    """Installs the project in editable form, by uv where it can be had (ten times faster), else by pip."""
    project = f"{ROOT}[{','.join(sorted(extras))}]" if extras else str(ROOT)
    limits = ["--constraint", str(CONSTRAINTS)] if constrained else []
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *limits]
    uv = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, *limits]
    print(f"Installing wsss_jax{project[len(str(ROOT)) :]} and what it needs (about 1 GB).", flush=True)
    if succeeds([*pip, "uv"]) and succeeds([*uv, "--editable", project]):
        return
    print("uv could not do it; installing by pip, which takes a minute or more.", flush=True)
    if not succeeds([*pip, "--editable", project]):
        raise SetupError(
            "the installation failed, see above; it needs the package index and about 1.5 GB of disk"
        )


def succeeds(command: Sequence[str]) -> bool:
    """Runs an installer in the project's folder."""
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
