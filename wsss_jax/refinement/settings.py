"""What dense CRFs are told: kernels, iterations, and the published choices. Imports no JAX."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    Section,
    Setting,
    field,
    numbers,
    one_of,
    require_fields,
    rising,
)

BACKENDS = ("auto", "jax", "pydensecrf")
_WIDTH = Check("greater than 0 and finite", lambda value: 0 < value < math.inf)
_WEIGHT = Check("at least 0 and finite", lambda value: 0 <= value < math.inf)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfSettings:
    """Mean field of a fully connected CRF with Potts labels (Krähenbühl and Koltun, NIPS 2011).

    The fields are settings of section `crf`, too; the defaults are psa's.
    """

    iterations: int = field(10, "Mean-field updates", POSITIVE)
    gaussian_weight: float = field(3.0, "Of the kernel over positions", _WEIGHT)
    gaussian_sxy: float = field(3.0, "Its standard deviation in pixels", _WIDTH)
    bilateral_weight: float = field(10.0, "Of the kernel over positions and colours", _WEIGHT)
    bilateral_sxy: float = field(80.0, "Its standard deviation in pixels", _WIDTH)
    bilateral_srgb: float = field(13.0, "And in levels of 0..255 in each colour channel", _WIDTH)

    def __post_init__(self) -> None:
        require_fields(self, "a CRF")

    def at_scale(self, factor: float) -> "CrfSettings":
        """For images that were shrunk by `factor`: distances shrink alike, colours stay."""
        return dataclasses.replace(
            self, gaussian_sxy=self.gaussian_sxy / factor, bilateral_sxy=self.bilateral_sxy / factor
        )

    def describe(self) -> str:
        """Such as '10 iterations, Gaussian w 3 sxy 3, bilateral w 10 sxy 80 srgb 13'."""
        plain = f"Gaussian w {self.gaussian_weight:g} sxy {self.gaussian_sxy:g}"
        colour = (
            f"bilateral w {self.bilateral_weight:g} sxy {self.bilateral_sxy:g} srgb {self.bilateral_srgb:g}"
        )
        return f"{self.iterations} iterations, {plain}, {colour}"


PSA = CrfSettings()  # psa, SEAM, SC-CAM and OC-CSE: scores of CAMs
CPN = CrfSettings(iterations=5, bilateral_sxy=50.0)  # the same of CPN, whose published scripts never call it
IRN = CrfSettings(bilateral_sxy=50.0, bilateral_srgb=5.0)  # IRN, ReCAM and WaveCAM: label maps of CAMs
DEEPLAB = CrfSettings(gaussian_sxy=1.0, bilateral_weight=4.0, bilateral_sxy=67.0, bilateral_srgb=3.0)
SEAM_DEEPLAB = CrfSettings(iterations=1, bilateral_sxy=32.0)  # the DeepLab v1 that SEAM and CPN name
AFA = CrfSettings(bilateral_weight=4.0, bilateral_sxy=64.0, bilateral_srgb=5.0)
PRESETS = {"psa": PSA, "cpn": CPN, "irn": IRN, "deeplab": DEEPLAB, "seam_deeplab": SEAM_DEEPLAB, "afa": AFA}


def _check(flat: Mapping[str, Any]) -> None:
    alphas = flat["crf.alphas"]
    if flat["crf.binarised"] and any(alpha % 1 for alpha in alphas):
        raise ConfigError(
            f"config.crf.alphas={alphas}: with crf.binarised they must be whole numbers, for the "
            "background's score is then a power of a negative number"
        )


_ALPHAS = numbers(
    "one or more different numbers greater than 0", lambda v: min(v) > 0 and len(set(v)) == len(v)
)
CRF = Section(
    "crf",
    "Dense CRF on CAMs, as psa, SC-CAM, CPN and OC-CSE have it; see [refinement.md](refinement.md)",
    CrfSettings,
    check=_check,
    free=True,
    alphas=Setting((4.0, 32.0), "Background is (1 - max CAM)^alpha; psa's, OC-CSE's 6, 10, 24", _ALPHAS),
    binarised=Setting(False, "It sees maps of 0 and 255, as SC-CAM's does"),
    backend=Setting("auto", "'auto' is pydensecrf on a CPU that has it, else jax", one_of(*BACKENDS)),
    storage=Setting("float32", "Precision of the scores' files", one_of("float32", "float16")),
    batch_size=Setting(0, "Images per batch; 0: 8 per accelerator, 1 per CPU device", NOT_NEGATIVE),
    max_buckets=Setting(4, "Padded image sizes", POSITIVE),
    workers=Setting(0, "Processes of pydensecrf; 0: one per core", NOT_NEGATIVE),
)
SECTIONS = (CRF,)
_LEVELS = numbers("one or more rising levels of 0..1", rising)


def walk_section(
    name: str,
    help: str,
    *,
    beta: float,
    level: str,
    fixed_threshold: float,
    thresholds: tuple[float, ...],
    **own: Setting,
) -> Section:
    """The settings of a stage that walks: those that all have, and its own.

    Args:
      name, help: of the section.
      beta, fixed_threshold, thresholds: defaults.
      level: what the thresholds of masks are, in words.
      own: settings.
    """
    return Section(
        name,
        help,
        free=True,
        **own,  # type: ignore[arg-type]
        beta=Setting(beta, "Power of the affinities"),
        logt=Setting(8, "2^logt steps"),
        method=Setting("chebyshev", "Few terms, or each step", one_of("chebyshev", "stencil")),
        batch_size=Setting(8, "Images per batch over all devices of a host", POSITIVE),
        max_buckets=Setting(4, "Padded image sizes, each with two compiled programs", POSITIVE),
        fixed_threshold=Setting(fixed_threshold, f"{level} from which masks show a class", NOT_NEGATIVE),
        thresholds=Setting(thresholds, f"Of the curve: {level.lower()}", _LEVELS),
        threshold_from=Setting("", "Metrics JSON of another split, whose best one is applied to this split"),
    )
