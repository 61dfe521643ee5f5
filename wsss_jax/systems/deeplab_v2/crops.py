"""Training crops as deeplab-pytorch makes them: scaled, padded, cut, then mirrored."""

import dataclasses
from collections.abc import Callable

import numpy as np

from wsss_jax.data.loader import Sample
from wsss_jax.data.source import VOID, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledCrop:
    """Makes the training sample of an image: image float32[c, c, 3], box int32[4], label_map uint8[c, c].

    Attributes:
      source: the data set.
      mask: the label map uint8[H, W] of an image id.
      crop: side of the square crop in pixels.
      scales: one of them is drawn.
      flip: whether to mirror half of the crops.
    """

    source: Source
    mask: Callable[[str], np.ndarray]
    crop: int
    scales: tuple[float, ...]
    flip: bool = True

    def __call__(self, image_id: str, rng: np.random.Generator) -> Sample:
        """Returns the sample."""
        image, mask = self.source.image(image_id), self.mask(image_id)
        scale = float(rng.choice(self.scales))
        free = [max(0, side - self.crop) for side in scaled_size(mask.shape, scale)]
        start = (int(rng.integers(free[0], endpoint=True)), int(rng.integers(free[1], endpoint=True)))
        mirrored = bool(self.flip and rng.random() < 0.5)
        return labelled_crop(image, mask, scale, start, self.crop, mirrored)


def scaled_size(size: tuple[int, ...], scale: float) -> tuple[int, int]:
    """(H, W) times a scale, cut to whole pixels, at least 1."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def labelled_crop(
    image: np.ndarray, mask: np.ndarray, scale: float, start: tuple[int, int], crop: int, mirrored: bool
) -> Sample:
    """Cuts a window out of the scaled image; where that is smaller, it lies at the window's top left.

    Args:
      image: uint8[H, W, 3].
      mask: uint8[H, W].
      scale: of both sides.
      start: first row and column of the window in the scaled image.
      crop: side of the window.
      mirrored: whether the window is mirrored, its margin with it.
    """
    size = scaled_size(mask.shape, scale)
    taken = [np.arange(first, min(side, first + crop)) for first, side in zip(start, size, strict=True)]
    pixels = np.zeros((crop, crop, 3), np.float32)
    labels = np.full((crop, crop), VOID, np.uint8)
    h, w = map(len, taken)
    pixels[:h, :w] = _linear(image, size, *taken)
    nearest = (_nearest(i, n, m) for i, n, m in zip(taken, mask.shape, size, strict=True))
    labels[:h, :w] = mask[np.ix_(*nearest)]
    box = np.array([0, h, 0, w], np.int32)
    if mirrored:
        pixels, labels, box = pixels[:, ::-1], labels[:, ::-1], np.array([0, h, crop - w, crop], np.int32)
    return {"image": pixels, "box": box, "label_map": labels}


def _linear(image: np.ndarray, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some rows and columns of an image resized to `size`, as OpenCV does it in float32: half-pixel bilinear,
    not antialiased when it shrinks."""
    top, bottom, down = _neighbours(rows, image.shape[0], size[0])
    left, right, across = _neighbours(columns, image.shape[1], size[1])
    strip = image[:, np.concatenate([left, right])].astype(np.float32)
    strip = strip[:, : len(left)] * (1 - across)[:, None] + strip[:, len(left) :] * across[:, None]
    return strip[top] * (1 - down)[:, None, None] + strip[bottom] * down[:, None, None]


def _neighbours(i: np.ndarray, n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of n samples, those on both sides of positions i of m, and the share of the second."""
    source = np.clip((i + 0.5) * (n / m) - 0.5, 0, n - 1)
    low = np.floor(source).astype(np.int64)
    return low, np.minimum(low + 1, n - 1), (source - low).astype(np.float32)


def _nearest(i: np.ndarray, n: int, m: int) -> np.ndarray:
    """Of n samples, those at positions i of m, as PIL takes them."""
    return np.floor((i + 0.5) * n / m).astype(np.int64)
