"""`python -m wsss_jax.main --config=configs/cse_voc.py`: from a configuration to a report.

Nothing heavy is imported before it is needed: spawned loader workers import this module again.
"""

import sys
from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from wsss_jax.commandline import one_line_errors, parse_flags
from wsss_jax.errors import ConfigError

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "An experiment, such as configs/cse_voc.py; --config.KEY=VALUE changes a setting.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default runs/<name of the config file>.")
_STAGES = flags.DEFINE_list(
    "stages", None, "Stages to run, such as infer_cam,eval_cam; default all of the method's."
)


def main(argv: Sequence[str]) -> None:
    """Runs the stages of the configured method; see docs/methods.md."""
    if (
        len(argv) > 1
    ):  # absl leaves over what is no flag, such as the second word of `--stages train infer_cam`
        raise ConfigError(
            f"{argv[1]!r}: not expected here; write lists with commas and flags as --name=value"
        )
    from pathlib import Path

    from wsss_jax.stages.run import run_stages

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    run_stages(_CONFIG.value, _WORKDIR.value or f"runs/{name}", _STAGES.value)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    with one_line_errors():
        app.run(main, argv=sys.argv, flags_parser=parse_flags)
