"""The settings of all systems."""

import functools
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import Section, Setting

_REFINING = ("affinity", "irn")  # systems that make no CAMs


def _check_source(flat: Mapping[str, Any]) -> None:
    if (flat["method"] in _REFINING) != bool(flat["cams_from"]):
        raise ConfigError(
            f"config.cams_from={flat['cams_from']!r}: the methods {' and '.join(_REFINING)}, and no others, "
            "need the folder of the run whose CAMs they refine; others refine their own, with "
            "--config.refinement"
        )


_SOURCE = Section(
    "",
    "",
    check=_check_source,
    cams_from=Setting("", "Methods `affinity` and `irn`: the folder of the run whose CAMs are refined"),
)


@functools.cache
def sections() -> tuple[Section, ...]:
    """What the folders of systems declare as `SECTIONS` in their `settings.py`, for those that have one."""
    found = [_SOURCE]
    for folder in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if folder.ispkg and importlib.util.find_spec(f"{folder.name}.settings"):
            found += importlib.import_module(f"{folder.name}.settings").SECTIONS
    return tuple(found)
