"""Settings of CPN: which patches one view hides and another shows alone, the second branch, the losses."""

from dataclasses import dataclass

from wsss_jax.settings import (
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Section,
    Setting,
    field,
    numbers,
    one_of,
    require_fields,
)

_SIDES = numbers("one or more sides in pixels", lambda sides: min(sides) >= 1)


@dataclass(frozen=True, kw_only=True)
class PatchRule:
    """Which patches of a crop are hidden; the defaults are those of F. Zhang et al., ICCV 2021."""

    patches: str = field("slic", "What is hidden: superpixels or cells of a grid", one_of("slic", "grid"))
    segments: int = field(300, "Superpixels of a crop, about", POSITIVE)
    compactness: float = field(10.0, "Of superpixels: weight of distance against colour", POSITIVE)
    # With replacement, so that fewer are hidden: 1 - exp(-1/2) = 39 % for one half.
    share: float = field(0.5, "Of the superpixels that are drawn, with replacement", SHARE)
    cells: tuple[int, ...] = field((224, 448), "Sides of a grid's cells in pixels, one for a crop", _SIDES)
    probability: float = field(0.5, "Of each cell to be hidden", SHARE)

    def __post_init__(self) -> None:
        require_fields(self, "hidden patches")


CPN = Section(
    "cpn",
    "CPN",
    PatchRule,
    branch_width=Setting(1.0, "Multiplier of the second branch's channels; 1: published", POSITIVE),
    hard_share=Setting(0.2, "Of CPCR's errors that count, the largest of all", POSITIVE_SHARE),
)
SECTIONS = (CPN,)
