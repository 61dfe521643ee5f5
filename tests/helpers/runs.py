"""The real configurations, shrunk until a run takes seconds."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.runs import opening, runner
from wsss_jax.runs.checks import check_start as check_stages
from wsss_jax.runs.context import Run
from wsss_jax.runs.parts import Part, checked_stages
from wsss_jax.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "batch_size": 8,
    "total_epochs": 2,
    "init_from": "scratch",
    "compilation_cache": "",
    "model": {"width": 1 / 32, "blocks": (0, 0, 0, 0), "calibration_batches": 1},
    # 2 x (crop / 16)^2 channels, as WaveCAM's waves need.
    "resnet50": {"width": 1 / 256, "blocks": (1, 1, 1, 1)},
    "dataset": {"shapes": {"num_train": 24, "num_val": 10, "image_size": 40}},
    "augment": {"resize_long": (36, 44), "crop": 32},
    "cam": {"scales": (1.0,), "batch_size": 4, "max_buckets": 2},
    "loader": {"workers": 0, "threads": 2},
    "log": {"every_steps": 2},
    "report": {"images": 4},
    "sc_cam": {"rounds": 2, "handoff_epochs": (0, 1)},
    "affinity": {"batch_size": 8, "total_epochs": 2, "crop": 32, "radius": 2},
    "walk": {"batch_size": 4, "max_buckets": 1},
    "irn": {
        "width": 1 / 32,
        "blocks": (1, 1, 1, 1),
        "init_from": "scratch",
        "batch_size": 8,
        "total_epochs": 2,
        "crop": 32,
        "radius": 3,
        "walk": {"batch_size": 4, "max_buckets": 1, "radius": 3},
    },
}


def load(name: str) -> ConfigDict:
    """The configuration of configs/<name>.py as it is."""
    spec = importlib.util.spec_from_file_location(f"configs.{name}", ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def tiny(name: str, **changes) -> ConfigDict:
    """The same, shrunk; `changes` are 'section.key' with two underscores for the dot."""
    config = load(name)
    config.update(TINY)
    if config.method not in ("cam", "resnet50_cam"):
        config.classifier_from = ""
        config.classifier = ConfigDict({"init_from": "scratch"})
    config.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return config


def as_flags(config: ConfigDict, base: ConfigDict, prefix: str = "") -> list[str]:
    """The command line that turns `base` into `config`."""
    flags = []
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flags += as_flags(value, base[key], f"{prefix}{key}.")
        elif value != base.get(key):
            flags.append(f"--config.{prefix}{key}={value}")
    return flags


def run_stages_of(config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None) -> None:
    """Runs stages of the systems that there are."""
    runner.run_stages_of(config, workdir, stages, SYSTEMS)


def open_run(config: ConfigDict, workdir: str | Path) -> Run:
    """Opens a run of the systems that there are."""
    run = look_into(config, workdir)
    opening.write_start(run)
    return run


def look_into(config: ConfigDict, workdir: str | Path) -> Run:
    """Looks into a run of the systems that there are."""
    return opening.look_into(config, workdir, SYSTEMS)


def make_method(config: ConfigDict, num_classes: int) -> Any:
    """What the configured system makes of a configuration."""
    return SYSTEMS.system(config.method).make(config, num_classes)


def check_start(run: Run, stages: Sequence[str] | None) -> list[Part]:
    """Checks what stages will need, given by their names."""
    return check_stages(run, checked_stages(run, stages))
