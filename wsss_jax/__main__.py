"""`wsss-jax COMMAND ...`: all commands under one name; `wsss-jax COMMAND --help` explains each.

run       an experiment, from its configuration to its report (also python -m wsss_jax.main)
cam       class activation maps of your own images (python -m wsss_jax.cam)
segment   label maps of your own images (python -m wsss_jax.segment)
prepare   COCO, once before it is used (python -m wsss_jax.prepare)
refine    dense CRF or random walk on maps that any program has made (python -m wsss_jax.refine)
convert   published checkpoints to ours and back (python -m wsss_jax.convert)
"""

import difflib
import sys

from wsss_jax.commandline import STATUS, one_line_errors, run_command
from wsss_jax.errors import ConfigError

DOORS = {
    "run": "wsss_jax.main:command",
    "cam": "wsss_jax.cam:command",
    "segment": "wsss_jax.segment:command",
    "prepare": "wsss_jax.prepare:main",
    "refine": "wsss_jax.refine:main",
    "convert": "wsss_jax.convert.__main__:main",
}


def main() -> None:
    """Runs the command that the first argument names with the others."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(f"{__doc__}\n{STATUS}")
        sys.exit(0)
    if name != "--version" and name not in DOORS:
        with one_line_errors():
            near = difflib.get_close_matches(name, DOORS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DOORS)}"
            raise ConfigError(f"{name}: there is no such command; {hint}")
    if name in DOORS:
        del sys.argv[1]
    run_command(DOORS.get(name, ""))


if __name__ == "__main__":
    main()
