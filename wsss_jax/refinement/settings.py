"""What dense CRFs are told: kernels, iterations, and the published choices. Imports no JAX."""

import dataclasses

from wsss_jax.errors import ConfigError

_POSITIVE = ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb")
_NOT_NEGATIVE = ("gaussian_weight", "bilateral_weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrfSettings:
    """Mean field of a fully connected CRF with Potts labels (Krähenbühl and Koltun, NIPS 2011).

    Attributes:
      iterations: mean-field updates, at least 1.
      gaussian_weight: of the kernel over positions.
      gaussian_sxy: its standard deviation in pixels.
      bilateral_weight: of the kernel over positions and colours.
      bilateral_sxy: its standard deviation in pixels.
      bilateral_srgb: its standard deviation in levels of 0..255 in each colour channel.
    """

    iterations: int = 10
    gaussian_weight: float = 3.0
    gaussian_sxy: float = 3.0
    bilateral_weight: float = 10.0
    bilateral_sxy: float = 80.0
    bilateral_srgb: float = 13.0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"a CRF of {self.iterations} iterations does nothing; give 1 or more")
        for name in _POSITIVE + _NOT_NEGATIVE:
            value = getattr(self, name)
            if not value >= 0 or value == float("inf") or (name in _POSITIVE and value == 0):
                bound = "greater than 0" if name in _POSITIVE else "at least 0"
                raise ConfigError(f"{name} of a CRF is {value}: must be finite and {bound}")

    def at_scale(self, factor: float) -> "CrfSettings":
        """For pictures that were shrunk by `factor`: distances shrink alike, colours stay."""
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
