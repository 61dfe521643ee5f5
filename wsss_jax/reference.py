"""The reference of all settings, as docs/configuration.md has it.

python -m wsss_jax.reference > docs/configuration.md
"""

from collections.abc import Iterator, Sequence
from typing import Any

from wsss_jax.config import is_free, sections
from wsss_jax.settings import Section

_HEAD = """# Settings

`--config.KEY=VALUE` changes a setting of one run; a file in `configs/` changes several, and what it leaves
out has the default given here. `python -m wsss_jax.reference` makes this page of what the program declares.

Settings that are free may change in a run's folder, whose weights do not depend on them. With another value
of any other, a folder that holds results is refused."""
_SHOWN = 8  # values of a sequence


def page() -> str:
    """The page, in Markdown."""
    names = dict.fromkeys(section.name for section in sections())
    parts = (_part(name, [section for section in sections() if section.name == name]) for name in names)
    return "\n\n".join([_HEAD, *parts]) + "\n"


def _part(name: str, same: Sequence[Section]) -> str:
    """The sections of one name, of which there are several for settings that are in none."""
    head = f"## `{name}`\n\n{same[0].help}." if name else "## In no section"
    rows = [row for section in same for row in _rows(section)]
    table = ["", "| key | default | what it is | must be | free |", "|---|---|---|---|---|", *rows]
    return "\n".join([head, *(table if rows else ())])


def _rows(section: Section) -> Iterator[str]:
    for key, setting in section.keyed().items():
        wanted = setting.check.wanted if setting.check else ""
        free = "yes" if is_free(key) else ""
        yield f"| `{key}` | `{_short(setting.default)}` | {setting.help} | {wanted} | {free} |"


def _short(value: Any) -> str:
    """A value as Python writes it, without the middle of a long sequence."""
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"({value[0]!r}, {value[1]!r}, ..., {value[-1]!r})"
    return repr(value)


if __name__ == "__main__":
    print(page(), end="")
