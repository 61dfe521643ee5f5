"""What there is, by name: systems and refinements. Imports none of them before it is asked for."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsss_jax.errors import ConfigError


@dataclass(frozen=True)
class Registry:
    """Things by name; a text stands for one in a module, such as 'wsss_jax.systems.cam.system:SYSTEM'.

    Attributes:
      systems: a `System` for each value of `config.method`.
      refinements: a tuple of `Stage`s for each value of `config.refinement`.
      following: a tuple of `Stage`s that any run can go on with, where --stages names them.
    """

    systems: Mapping[str, Any]
    refinements: Mapping[str, Any]
    following: Any = ()

    def system(self, name: str) -> Any:
        """The system that `config.method` names; ConfigError if there is none."""
        if name not in self.systems:
            raise ConfigError(f"config.method={name!r}: must be one of {', '.join(self.systems)}")
        return _imported(self.systems[name])

    def refinement(self, name: str) -> Any:
        """The stages that `config.refinement` names."""
        return _imported(self.refinements[name])

    def on_request(self) -> Any:
        """The stages that any run can go on with."""
        return _imported(self.following)


def _imported(entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
