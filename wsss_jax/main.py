"""Runs an experiment, from a configuration to a report.

Examples:
  python -m wsss_jax.main --config=cse_shapes
  python -m wsss_jax.main --config=configs/cse_voc.py --config.dataset.root=VOCdevkit/VOC2012
  python -m wsss_jax.main --config=cse_voc --dry_run

The same command goes on where it was stopped. `wsss-jax run` is another name for it.
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.main:command")

import sys
from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from wsss_jax.errors import ConfigError
from wsss_jax.flags import end_with_help, parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "An experiment's name, such as cse_voc, or a file; --config.KEY=VALUE changes a setting.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<name of the experiment>.")
_STAGES = flags.DEFINE_list(
    "stages", None, "Stages to run, such as infer_cam,eval_cam; default all of the method's."
)
_PROFILE = flags.DEFINE_string(
    "profile", "", "START:STOP: trace these steps of a training by jax.profiler, into the folder of its log."
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Check everything, say what would be done, and do nothing.")
_LIST = flags.DEFINE_bool("list", False, "List experiments, methods and their stages.")


def main(argv: Sequence[str]) -> None:
    """Runs the stages of the configured method; see docs/methods.md."""
    if (
        len(argv) > 1
    ):  # absl leaves over what is no flag, such as the second word of `--stages train infer_cam`
        raise ConfigError(
            f"{argv[1]!r}: not expected here; write lists with commas and flags as --name=value"
        )
    from pathlib import Path

    from wsss_jax.runs.dry_run import dry_run
    from wsss_jax.runs.listing import listing
    from wsss_jax.runs.runner import run_stages
    from wsss_jax.systems import SYSTEMS

    if _LIST.value:
        return print(listing(SYSTEMS))
    if _CONFIG.value is None:
        raise ConfigError("--config=NAME or --config=FILE is missing; --list shows the experiments")
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    if _PROFILE.value:
        _CONFIG.value.log.profile = _PROFILE.value
    do = dry_run if _DRY_RUN.value else run_stages
    do(_CONFIG.value, _WORKDIR.value or f"runs/{name}", _STAGES.value, SYSTEMS)


def command() -> None:
    """Runs the program's arguments."""
    end_with_help(__name__)
    app.run(main, argv=sys.argv, flags_parser=parse_flags)
