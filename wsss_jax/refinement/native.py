"""The same CRF by pydensecrf, an optional C++ extension; runs in worker processes and imports no JAX."""

import importlib.util
from typing import Any

import numpy as np

from wsss_jax.errors import ConfigError
from wsss_jax.refinement.settings import CrfSettings


def is_installed() -> bool:
    """Whether the extra `pydensecrf` is there."""
    return importlib.util.find_spec("pydensecrf") is not None


def check_installed() -> None:
    """Raises ConfigError, which says how to install the extra, if it is not there."""
    if not is_installed():
        raise ConfigError(
            "backend 'pydensecrf' is not installed: pip install 'wsss-jax[pydensecrf]' (it needs a C++ "
            "compiler and Python 3.11 or 3.12), or choose the backend 'jax'"
        )


def mean_field(image: np.ndarray, energies: np.ndarray, settings: CrfSettings) -> np.ndarray:
    """Probabilities float32[L, H, W] of unary energies float32[L, H, W] on uint8[H, W, 3]."""
    from pydensecrf import densecrf

    L, H, W = energies.shape
    crf: Any = densecrf.DenseCRF2D(W, H, L)
    crf.setUnaryEnergy(np.array(energies.reshape(L, -1), order="C"))
    crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.array(image, order="C"),  # a copy, for it takes no array that cannot be written to
        compat=settings.bilateral_weight,
    )
    return np.array(crf.inference(settings.iterations), np.float32).reshape(L, H, W)
