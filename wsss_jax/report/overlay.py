"""Images of scores and labels: heat overlays and label overlays."""

import functools

import numpy as np

from wsss_jax.data.images import voc_palette

_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601

# Dark violet over red to pale yellow, brightness rising evenly, so that the map also reads in greyscale.
_HEAT_ANCHORS = np.array(
    [
        (8, 6, 36),
        (54, 14, 92),
        (112, 26, 110),
        (170, 44, 96),
        (219, 80, 62),
        (246, 136, 24),
        (252, 199, 62),
        (252, 250, 170),
    ],
    np.float64,
)


def cam_overlay(image: np.ndarray, cam: np.ndarray, *, opacity: float = 0.8) -> np.ndarray:
    """Draws one class's scores over an image.

    The image turns grey and the heat colour covers it the more the higher the score, so that regions
    without evidence stay recognisable.

    Args:
      image: uint8[H, W, 3] RGB.
      cam: float[H, W]; clipped to 0..1.
      opacity: cover of the heat colour at score 1, in 0..1.

    Returns:
      uint8[H, W, 3] RGB.

    Raises:
      ValueError: sizes differ or the opacity is out of range.
    """
    _check(image, cam, opacity)
    score = np.clip(np.nan_to_num(cam.astype(np.float32)), 0, 1)
    grey = (image.astype(np.float32) @ _GREY_WEIGHTS)[..., None]
    heat = heat_scale()[np.round(score * 255).astype(np.uint8)].astype(np.float32)
    cover = (opacity * np.sqrt(score))[..., None]
    return np.round(grey * (1 - cover) + heat * cover).astype(np.uint8)


def label_overlay(image: np.ndarray, labels: np.ndarray, *, opacity: float = 0.6) -> np.ndarray:
    """Draws a label map over an image in VOC colours; background (0) leaves the image as it is.

    Args:
      image: uint8[H, W, 3] RGB.
      labels: uint8[H, W].
      opacity: cover of the class colours, in 0..1.

    Returns:
      uint8[H, W, 3] RGB.

    Raises:
      ValueError: sizes differ or the opacity is out of range.
    """
    _check(image, labels, opacity)
    cover = np.where(labels > 0, np.float32(opacity), np.float32(0))[..., None]
    blend = image * (1 - cover) + voc_palette()[labels] * cover
    return np.round(blend).astype(np.uint8)


@functools.cache
def heat_scale() -> np.ndarray:
    """A sequential scale of colours for scores, uint8[256, 3] RGB, read-only: entry 255 is score 1."""
    position = np.linspace(0, 1, 256)
    anchors = np.linspace(0, 1, len(_HEAT_ANCHORS))
    channels = [np.interp(position, anchors, _HEAT_ANCHORS[:, channel]) for channel in range(3)]
    scale = np.round(np.stack(channels, axis=1)).astype(np.uint8)
    scale.setflags(write=False)
    return scale


def _check(image: np.ndarray, plane: np.ndarray, opacity: float) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is uint8[H, W, 3], not {image.dtype}{list(image.shape)}")
    if plane.shape != image.shape[:2]:
        raise ValueError(f"sizes differ: image {image.shape[:2]}, map {plane.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it must lie in 0..1")
