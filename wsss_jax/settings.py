"""What a setting is: its default, what it is for, what it must be, and whether a run may change it later.

Each part of the program declares its own in a file `settings.py`, which imports no JAX; `wsss_jax.config`
puts them together.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from wsss_jax.errors import ConfigError

T = TypeVar("T")


class Check(NamedTuple):
    """What a value must be, in words that go on from "must be", and a function that tells whether it is."""

    wanted: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """A default (a number, string, bool or tuple of them), what it is in words, and what it must be, if not
    just of the default's type; `free` ones may change in a run's folder, whose weights do not depend on them.
    """

    default: Any
    help: str
    check: Check | None = None
    free: bool = False

    def require(self, value: Any, found: str) -> None:
        """ConfigError if the value cannot be used; `found` says which value of what it is."""
        if self.check and not self.check.holds(value):
            raise ConfigError(f"{found}: must be {self.check.wanted}")


class Section:
    """Settings that belong together: `config.NAME`, 'a.b' within section a, or '' for the top."""

    def __init__(
        self,
        name: str,
        help: str,
        /,
        *rules: type,
        check: Callable[[Mapping[str, Any]], None] = lambda flat: None,
        free: bool = False,
        **settings: Setting,
    ) -> None:
        """The settings are the fields of dataclasses, `rules`, and those given by name.

        `check` raises ConfigError for values, by their dotted keys, each of which can be used, but not
        together; `free` says that all settings of the section are.
        """
        self.name, self.help, self.check, self.free = name, help, check, free
        fields = {key: each for rule in rules for key, each in settings_of(rule).items()}
        self.settings: Mapping[str, Setting] = fields | settings

    def keyed(self) -> dict[str, Setting]:
        """The settings by their dotted keys, such as 'cam.scales'."""
        return {f"{self.name}.{name}".removeprefix("."): each for name, each in self.settings.items()}


def field(default: T, help: str, check: Check | None = None) -> T:
    """The field of a dataclass that is a setting as well; `settings_of` gathers them."""
    return dataclasses.field(default=default, metadata={"setting": Setting(default, help, check)})


def settings_of(cls: type) -> dict[str, Setting]:
    """The fields of a dataclass that are settings, by name."""
    fields = dataclasses.fields(cls)
    return {each.name: each.metadata["setting"] for each in fields if "setting" in each.metadata}


def require_fields(instance: Any, of: str) -> None:
    """ConfigError if a field that is a setting cannot be used; `of` says of what it is one."""
    for name, setting in settings_of(type(instance)).items():
        value = getattr(instance, name)
        setting.require(value, f"{name} of {of} is {value!r}")


def made_of(cls: type[T], section: Mapping[str, Any]) -> T:
    """The dataclass with the values that a section of a configuration has for its fields."""
    return cls(**{name: section[name] for name in settings_of(cls)})


POSITIVE = Check("greater than 0", lambda value: value > 0)
NOT_NEGATIVE = Check("at least 0", lambda value: value >= 0)
SHARE = Check("0 to 1", lambda value: 0 <= value <= 1)
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
