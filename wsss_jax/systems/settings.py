"""The settings of all systems."""

import functools
import importlib.util
import pkgutil
from pathlib import Path

from wsss_jax.settings import Section


@functools.cache
def sections() -> tuple[Section, ...]:
    """What the folders of systems declare as `SECTIONS` in their `settings.py`, for those that have one."""
    found: list[Section] = []
    for folder in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}."):
        if folder.ispkg and importlib.util.find_spec(f"{folder.name}.settings"):
            found += importlib.import_module(f"{folder.name}.settings").SECTIONS
    return tuple(found)
