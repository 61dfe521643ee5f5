"""Settings of InferCam."""

from dataclasses import dataclass

from wsss_jax.settings import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    Section,
    Setting,
    field,
    numbers,
    one_of,
)

_QUALITY = Check("1 to 100, 0 for none", lambda quality: 0 <= quality <= 100)
_JPEG = (
    "Crops go through a JPEG file of this quality, as between the authors' two programs; with 0 they do not, "
    "which moves the maps of a photograph by 0.004 in the mean, and 0.8 % of the labels at background 0.3"
)
_MARGINS = numbers("(one class, two classes) in pixels", lambda v: len(v) == 2 and min(v) >= 0)


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How far crops reach beyond the centres of classes; an image of three or more classes is not split.

    Wrapped, a centre near an edge makes crops of a few rows or columns at the opposite edge, as the authors'
    program does; else a start below 0 is cut off.
    """

    margins: tuple[int, int] = field((10, 20), "Beyond the centres of one class, of two", _MARGINS)
    wrap: bool = field(True, "Starts below 0 count from the end, as in the authors' slices")


@dataclass(frozen=True, kw_only=True)
class ErasingRule:
    """When a pixel is erased, and when a crop is done."""

    iterations: int = field(5, "A crop is asked at most so often", POSITIVE)
    erase_threshold: float = field(0.7, "Score from which the next iteration paints a pixel over", POSITIVE)
    min_erased_fraction: float = field(
        0.02, "A crop is done once an iteration newly erases less than this share", NOT_NEGATIVE
    )


INFER_CAM = Section(
    "infer_cam",
    "InferCam",
    SplitRule,
    ErasingRule,
    free=True,
    network=Setting("cam", "The system whose network is asked", one_of("cam", "cse", "sc_cam", "seam")),
    jpeg_quality=Setting(95, _JPEG, _QUALITY),
    split_path=Setting("", "Folder of crops that the authors' first program has made, in place of ours"),
    max_buckets=Setting(16, "Padded sizes of crops, each a compiled program", POSITIVE),
)
SECTIONS = (INFER_CAM,)
