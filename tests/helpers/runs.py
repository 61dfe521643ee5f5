"""The real configurations, shrunk until a run takes seconds."""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "batch_size": 8,
    "total_epochs": 2,
    "init_from": "scratch",
    "compilation_cache": "",
    "model": {"width": 1 / 32, "blocks": (0, 0, 0, 0), "calibration_batches": 1},
    "dataset": {"shapes": {"num_train": 24, "num_val": 10, "image_size": 40}},
    "augment": {"resize_long": (36, 44), "crop": 32},
    "cam": {"scales": (1.0,), "batch_size": 4, "max_buckets": 2},
    "loader": {"workers": 0, "threads": 2},
    "log": {"every_steps": 2},
    "report": {"images": 4},
    "sc_cam": {"rounds": 2, "hand_on": (0, 1)},
    "affinity": {"batch_size": 8, "total_epochs": 2, "crop": 32, "radius": 2},
    "walk": {"batch_size": 4},
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
    if config.method != "cam":
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
