"""What a setting is: its default, what it is for, what it must be, and whether a run may change it later.

Each part of the program declares its own in a file `settings.py`, which imports no JAX; `wsss_jax.config`
puts them together.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from wsss_jax.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """What a value must be.

    Attributes:
      wanted: in words that go on from "must be".
      holds: whether a value is that.
    """

    wanted: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
      default: its value where a user says nothing; a number, a string, a bool or a tuple of such.
      help: what it is, in words.
      check: what it must be; None if every value of the default's type can be used.
      free: whether it may change in a run's folder, since the weights do not depend on it.
    """

    default: Any
    help: str
    check: Check | None = None
    free: bool = False

    def require(self, value: Any, found: str) -> None:
        """ConfigError if the value cannot be used; `found` says which value of what it is."""
        if self.check and not self.check.holds(value):
            raise ConfigError(f"{found}: must be {self.check.wanted}")


@dataclass(frozen=True)
class Section:
    """Settings that belong together.

    Attributes:
      name: 'cam' of `config.cam`, 'dataset.shapes' of a section within one, '' for settings in none.
      help: what they are about, in words.
      settings: by name.
      check: of several settings at once, of this section and others; raises ConfigError. It is given all
        values by their dotted keys, after each has passed its own check.
      free: whether all of them are `free`.
    """

    name: str
    help: str
    settings: Mapping[str, Setting]
    check: Callable[[Mapping[str, Any]], None] | None = None
    free: bool = False

    def keyed(self) -> dict[str, Setting]:
        """The settings by their dotted keys, such as 'cam.scales'."""
        prefix = f"{self.name}." if self.name else ""
        return {prefix + name: setting for name, setting in self.settings.items()}


def field(default: T, help: str, check: Check | None = None) -> T:
    """The field of a dataclass that is a setting as well; `settings_of` gathers them."""
    setting = Setting(default, help, check)
    return cast(T, dataclasses.field(default=default, metadata={"setting": setting}))


def settings_of(cls: type) -> dict[str, Setting]:
    """The fields of a dataclass that are settings, by name."""
    fields = dataclasses.fields(cls)
    return {each.name: each.metadata["setting"] for each in fields if "setting" in each.metadata}


POSITIVE = Check("greater than 0", lambda value: value > 0)
NOT_NEGATIVE = Check("at least 0", lambda value: value >= 0)
POSITIVE_SHARE = Check("greater than 0, at most 1", lambda value: 0 < value <= 1)


def one_of(*values: str) -> Check:
    """One of some words."""
    return Check(f"one of {', '.join(map(repr, values))}", lambda value: value in values)


def numbers(wanted: str, holds: Callable[[Sequence[float]], bool]) -> Check:
    """One or more finite numbers for which `holds` is true; `wanted` says what they are."""
    return Check(wanted, lambda values: _are_numbers(values) and holds(values))


def rising(values: Sequence[float]) -> bool:
    """Whether numbers begin at 0 or more, and each is greater than the one before."""
    return values[0] >= 0 and all(a < b for a, b in itertools.pairwise(values))


def _are_numbers(values: Any) -> bool:
    return bool(values) and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
