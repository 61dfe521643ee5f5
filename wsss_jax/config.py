"""The configuration: every setting that a part of the program declares, with its default, and their checks.

Files in `configs/` start from `defaults()` and change what differs; docs/configuration.md lists all settings.
Imports no JAX.
"""

import functools
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.data.settings import SECTIONS as DATA
from wsss_jax.evaluation.settings import SECTIONS as EVALUATION
from wsss_jax.inference.settings import SECTIONS as INFERENCE
from wsss_jax.refinement.settings import SECTIONS as REFINEMENT
from wsss_jax.report.settings import SECTIONS as REPORT
from wsss_jax.runs.settings import SECTIONS as RUNS
from wsss_jax.settings import Section, Setting
from wsss_jax.stages.settings import SECTIONS as STAGES
from wsss_jax.systems.settings import sections as of_systems
from wsss_jax.training.settings import SECTIONS as TRAINING

_SHARED = (*RUNS, *TRAINING, *DATA, *INFERENCE, *EVALUATION, *REFINEMENT, *STAGES, *REPORT)
_added: list[Section] = []


def add(*sections: Section) -> None:
    """Adds the settings of a system that is defined outside the package."""
    _added.extend(sections)


def sections() -> tuple[Section, ...]:
    """All that is declared: what systems share, then the systems' own."""
    return (*_SHARED, *of_systems(), *_added)


def declared() -> dict[str, Setting]:
    """All settings by their dotted keys."""
    return {key: setting for section in sections() for key, setting in section.keyed().items()}


def defaults() -> ConfigDict:
    """Returns the settings that all experiments share, with the values of the published OC-CSE run on VOC."""
    values: dict[str, Any] = {}
    for section in sections():
        place = values
        for part in filter(None, section.name.split(".")):
            place = place.setdefault(part, {})
        place.update({name: setting.default for name, setting in section.settings.items()})
    return ConfigDict(values)


def validate(config: ConfigDict) -> None:
    """Raises ConfigError, naming key, value and what would be right, if a value cannot be used."""
    flat = dict(flatten(config))
    for key, setting in declared().items():
        setting.require(flat[key], f"config.{key}={flat[key]!r}")
    for section in sections():
        section.check(flat)


def is_free(key: str) -> bool:
    """Whether a setting may change in the folder of a run, whose weights do not depend on it.

    Of the settings of section `classifier` those are that are without it. A key that this version does not
    know is as free as its section.
    """
    key = key.removeprefix("classifier.")
    free = {section.name for section in sections() if section.free}
    known = declared().get(key)
    return key.rpartition(".")[0] in free or (known is not None and known.free)


def resolved(config: ConfigDict) -> ConfigDict:
    """Returns a copy in which `dataset.infer_split` 'auto' is the split that it stands for."""
    config = ConfigDict(config.to_dict())
    dataset = config.dataset
    if dataset.infer_split == "auto":
        chain = config.refinement not in ("none", "crf")
        dataset.infer_split = dataset.train_split if chain else dataset.eval_split
    return config


def value_of(config: ConfigDict, key: str) -> Any:
    """The value, or the section, of a dotted key."""
    return functools.reduce(lambda section, name: section[name], key.split("."), config)


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ('section.key', value) for every value of a configuration."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
