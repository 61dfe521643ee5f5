"""`python -m benchmarks`: what is fast, measured here and now; docs/benchmarks.md explains the rows."""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("benchmarks.__main__:command")

import json
import sys
from collections.abc import Sequence

from absl import app, flags

from benchmarks.row import Settings
from benchmarks.topics import TOPICS, check_topics, measure
from wsss_jax.flags import end_with_help, parse_flags

_DEFAULT = Settings()
_ONLY = flags.DEFINE_list("only", [], f"Topics to measure, of {','.join(TOPICS)}; default all.")
_JSON = flags.DEFINE_string("json", None, "File to write settings, machine, versions and rows to.")
_DATA = flags.DEFINE_string("data", "", "Folder VOC2012 of a devkit; default drawn images of such sizes.")
_REPEATS = flags.DEFINE_integer(
    "repeats", _DEFAULT.repeats, "Measurements, of which the median counts.", lower_bound=1
)
_WIDTH = flags.DEFINE_float(
    "width", _DEFAULT.width, "Multiplier of channel counts; 1 is the published network.", lower_bound=0.01
)
_CROP = flags.DEFINE_integer(
    "crop", _DEFAULT.crop, "Side of training crops in pixels; published: 384.", lower_bound=8
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", _DEFAULT.batch_size, "Images per batch and device; published: 8.", lower_bound=1
)
_PICTURES = flags.DEFINE_integer(
    "images", _DEFAULT.images, "Images for inference, loader and evaluation.", lower_bound=2
)
_SIDE = flags.DEFINE_integer(
    "side",
    _DEFAULT.side,
    "Inference's images are shrunk to this side in pixels; 0 leaves them.",
    lower_bound=0,
)
_PRECISION = flags.DEFINE_enum(
    "precision", _DEFAULT.precision, ["float32", "fast", "bfloat16"], "Of the networks."
)


def main(argv: Sequence[str]) -> None:
    """Measures, prints the table, and writes it as JSON if asked to."""
    names, settings = check_topics(_ONLY.value), _settings()
    from benchmarks.machine import load, machine, versions
    from benchmarks.networks import prepare_jax
    from benchmarks.table import describe, document, table
    from wsss_jax.files import write_whole

    prepare_jax(settings)
    load_before = load()
    rows = measure(names, settings)
    where, what = machine(load_before), versions()
    print(f"{describe(where)}\n{describe(what)}\n\n{table(rows)}")
    if _JSON.value:
        text = json.dumps(document(rows, settings, where, what), indent=2) + "\n"
        write_whole(_JSON.value, lambda file: file.write(text.encode()))


def _settings() -> Settings:
    return Settings(
        width=_WIDTH.value,
        crop=_CROP.value,
        batch_size=_BATCH_SIZE.value,
        images=_PICTURES.value,
        side=_SIDE.value,
        repeats=_REPEATS.value,
        precision=_PRECISION.value,
        data=_DATA.value,
    )


def command() -> None:
    """Runs the program's arguments."""
    end_with_help(__name__)
    app.run(main, argv=sys.argv, flags_parser=parse_flags)
