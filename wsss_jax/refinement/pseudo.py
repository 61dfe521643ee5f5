"""The host's side of pseudo masks, NumPy only: what a walk starts from, and masks of what it gives."""

import io

import numpy as np
from PIL import Image

from wsss_jax.data.affinity_labels import mean_of_cells
from wsss_jax.data.images import voc_palette


def walk_seeds(cam: np.ndarray, alpha: float, stride: int) -> np.ndarray:
    """Background and class scores of the cells of a grid.

    Background is (1 - max)^alpha per pixel (psa), the maximum being over all classes, of which those that
    the image lacks are 0. Cells that stick out of the picture count zeros there, in every plane.

    Args:
      cam: float32[K, H, W], 0..1.
      alpha: higher means less background.
      stride: side of a cell in pixels.

    Returns:
      float32[K + 1, ceil(H / stride), ceil(W / stride)], background first.
    """
    K, H, W = cam.shape
    planes = np.zeros((-(-H // stride) * stride, -(-W // stride) * stride, K + 1), np.float32)
    best = cam.max(0, initial=0)
    planes[:H, :W, 0] = np.maximum(1 - best, 0) ** alpha
    planes[:H, :W, 1:] = np.moveaxis(cam, 0, -1)
    return np.ascontiguousarray(np.moveaxis(mean_of_cells(planes, stride), -1, 0))


def upsample(planes: np.ndarray, stride: int, size: tuple[int, int]) -> np.ndarray:
    """Bilinear enlargement by `stride`, half-pixel convention, cut to (H, W): [K, h, w] -> [K, H, W]."""
    rows = _interpolation(planes.shape[1], stride, size[0])
    columns = _interpolation(planes.shape[2], stride, size[1])
    return rows @ planes.astype(np.float32, copy=False) @ columns.T


def foreground_shares(planes: np.ndarray) -> np.ndarray:
    """How far each class outweighs the background: [K + 1, H, W], background first -> [K, H, W], 0..1.

    Each class's score over the sum of the best class's and the background's. The best class is above 1/2
    exactly where it beats the background, as in psa's argmax; another level than 1/2 weighs the background
    anew, with no need to walk again.
    """
    classes = planes[1:]
    total = planes[0] + classes.max(0, initial=0)
    return np.divide(classes, total, out=np.zeros_like(classes), where=total > 0)


def label_map(planes: np.ndarray, keys: np.ndarray, level: float) -> np.ndarray:
    """The mask of class planes [K, H, W]: uint8[H, W], key + 1 of the best where it is above `level`, else 0.

    Of equal planes the first wins, and background against all (the references' argmax).
    """
    if not len(keys):
        return np.zeros(planes.shape[1:], np.uint8)
    best = planes.argmax(0)
    labels = (keys.astype(np.int64) + 1).astype(np.uint8)[best]
    return np.where(planes.max(0) > np.float32(level), labels, np.uint8(0))


def palette_png(labels: np.ndarray) -> bytes:
    """A PNG of 8-bit labels uint8[H, W] with VOC's colours."""
    picture = Image.fromarray(labels)
    picture.putpalette(voc_palette().tobytes())  # makes it a picture of mode P; the pixels stay
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _interpolation(n: int, factor: int, rows: int) -> np.ndarray:
    """float32[rows, n]: weights of the first `rows` of n * factor samples, as PyTorch interpolates."""
    source = np.clip((np.arange(rows) + 0.5) / factor - 0.5, 0, n - 1)
    low = np.floor(source).astype(int)
    fraction = (source - low).astype(np.float32)
    weights = np.zeros((rows, n), np.float32)
    weights[np.arange(rows), low] = 1 - fraction
    weights[np.arange(rows), np.minimum(low + 1, n - 1)] += fraction
    return weights
