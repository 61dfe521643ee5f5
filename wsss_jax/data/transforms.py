"""Augmentation of training images and rescaling for multi-scale inference, as the published systems do it.

Every random transform is a function of (image, rng) alone, so that a sample depends on its seed and on
nothing else. The order is that of the psa family of code (Ahn and Kwak, CVPR 2018): resize, flip, colour
jitter, crop. There the normalisation comes before the crop, so that the crop's empty border is zero *after*
it; here the crop stays uint8 and tells where the image lies, and whoever normalises zeroes the rest.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from wsss_jax.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in 0..1, over ImageNet's training images."""
IMAGENET_STD = (0.229, 0.224, 0.225)

_BICUBIC = Image.Resampling.BICUBIC


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColorJitter:
    """Half-widths of the colour jitter: factors are uniform in [1 - x, 1 + x], the hue's shift in [-x, x].

    The hue's unit is a full turn of the colour wheel.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.1

    def __post_init__(self) -> None:
        for field, top in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            value = getattr(self, field)
            if not 0 <= value <= top:
                raise ConfigError(f"colour jitter: {field} is {value}, but must lie in [0, {top}]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an image becomes a training crop.

    Attributes:
        crop: side of the square crop in pixels.
        resize_long: inclusive range in pixels of the long side after resizing, or None to keep the size.
        flip: whether to mirror half of the images.
        jitter: the colour jitter, or None for none.
    """

    crop: int
    resize_long: tuple[int, int] | None = None
    flip: bool = True
    jitter: ColorJitter | None = dataclasses.field(default_factory=ColorJitter)

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise ConfigError(f"crop is {self.crop}, but must be at least 1 pixel")
        if self.resize_long is not None and not 1 <= self.resize_long[0] <= self.resize_long[1]:
            raise ConfigError(
                f"resize_long is {self.resize_long}, but must be a range (a, b) with 1 <= a <= b"
            )


def augment(image: np.ndarray, rng: np.random.Generator, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Makes one training crop.

    Args:
        image: uint8[H, W, 3], RGB.
        rng: the only source of randomness.
        recipe: what to do.

    Returns:
        The crop, uint8[c, c, 3], and its box, int32[4] (see `random_crop`).
    """
    if recipe.resize_long is not None:
        image = random_resize_long(image, rng, recipe.resize_long)
    if recipe.flip:
        image = random_flip(image, rng)
    if recipe.jitter is not None:
        image = color_jitter(image, rng, recipe.jitter)
    return random_crop(image, rng, recipe.crop)


def random_resize_long(image: np.ndarray, rng: np.random.Generator, bounds: tuple[int, int]) -> np.ndarray:
    """Resizes so that the long side is a uniformly drawn integer of [bounds[0], bounds[1]].

    Args:
        image: uint8[H, W, 3].
        rng: one integer is drawn from it.
        bounds: inclusive range in pixels.

    Returns:
        uint8[h, w, 3]; the short side is round(short * target / long), at least 1. PIL's bicubic.
    """
    height, width = image.shape[:2]
    target = int(rng.integers(*bounds, endpoint=True))
    if width < height:
        return _resize(image, target, max(1, round(width * target / height)))
    return _resize(image, max(1, round(height * target / width)), target)


def rescale(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes an image for one scale of multi-scale inference.

    Args:
        image: uint8[H, W, 3].
        scale: factor of both sides.

    Returns:
        uint8[round(H * scale), round(W * scale), 3] with Python's round (halves to even), at least one pixel
        a side, by PIL's bicubic; the very same array for scale 1.
    """
    return _rescaled(image, scale, _BICUBIC)


def rescale_labels(labels: np.ndarray, scale: float) -> np.ndarray:
    """The same for a label map uint8[H, W], by PIL's nearest neighbour."""
    return _rescaled(labels, scale, Image.Resampling.NEAREST)


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors the image left to right with probability one half."""
    return image[:, ::-1] if rng.random() < 0.5 else image


@dataclasses.dataclass(frozen=True)
class Window:
    """Where a square crop meets an image; along each axis (start in the crop, start in the image, extent).

    Attributes:
        crop: side of the crop in pixels.
        rows: of the part that both have.
        columns: likewise.
    """

    crop: int
    rows: tuple[int, int, int]
    columns: tuple[int, int, int]

    @property
    def box(self) -> np.ndarray:
        """int32[4] (top, bottom, left, right) with exclusive ends, of the image inside the crop."""
        (top, _, height), (left, _, width) = self.rows, self.columns
        return np.array([top, top + height, left, left + width], np.int32)

    def cut(self, image: np.ndarray, fill: int = 0) -> np.ndarray:
        """Returns the crop [crop, crop, ...] of an image [H, W, ...], `fill` where there is no image."""
        (top, row, height), (left, column, width) = self.rows, self.columns
        container = np.full((self.crop, self.crop, *image.shape[2:]), fill, image.dtype)
        part = image[row : row + height, column : column + width]
        container[top : top + height, left : left + width] = part
        return container


def random_window(size: tuple[int, int], rng: np.random.Generator, crop: int) -> Window:
    """Draws a square window of an image, or, where the image is smaller, a place for it in the crop.

    The two axes are independent: along an axis of length n, a window start uniform in [0, n - crop] if
    n > crop, else a place of the image uniform in [0, crop - n].

    Args:
        size: (H, W) of the image.
        rng: two integers are drawn from it.
        crop: side of the window in pixels.
    """
    rows = _place(size[0], crop, rng)
    return Window(crop, rows, _place(size[1], crop, rng))


def random_crop(image: np.ndarray, rng: np.random.Generator, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a square window of uint8[H, W, 3] at random, see `random_window`.

    Returns:
        The crop, uint8[crop, crop, 3], zero where there is no image; and the box, int32[4] (top, bottom,
        left, right) with exclusive ends, of the image inside the crop.
    """
    window = random_window((image.shape[0], image.shape[1]), rng, crop)
    return window.cut(image), window.box


def color_jitter(image: np.ndarray, rng: np.random.Generator, jitter: ColorJitter) -> np.ndarray:
    """Changes brightness, contrast, saturation and hue in random order.

    The arithmetic is torchvision's on PIL images, which the published systems use: each step rounds to uint8.

    Args:
        image: uint8[H, W, 3].
        rng: an order and four numbers are drawn from it.
        jitter: the ranges.

    Returns:
        uint8[H, W, 3].
    """
    steps: tuple[tuple[Callable[[Image.Image, float], Image.Image], float, float], ...] = (
        (adjust_brightness, 1, jitter.brightness),
        (adjust_contrast, 1, jitter.contrast),
        (adjust_saturation, 1, jitter.saturation),
        (adjust_hue, 0, jitter.hue),
    )
    order = rng.permutation(len(steps))
    factors = [centre + spread * rng.uniform(-1, 1) for _, centre, spread in steps]
    pil = Image.fromarray(np.ascontiguousarray(image))
    for step in order:
        adjust, _, spread = steps[step]
        if spread:  # not even the rounding of the way through HSV where nothing is to change
            pil = adjust(pil, factors[step])
    return np.asarray(pil)


def adjust_brightness(image: Image.Image, factor: float) -> Image.Image:
    """Multiplies by the factor, clipped to [0, 255]."""
    return ImageEnhance.Brightness(image).enhance(factor)


def adjust_contrast(image: Image.Image, factor: float) -> Image.Image:
    """Stretches by the factor around the mean gray of the whole image."""
    return ImageEnhance.Contrast(image).enhance(factor)


def adjust_saturation(image: Image.Image, factor: float) -> Image.Image:
    """Stretches by the factor around each pixel's own gray."""
    return ImageEnhance.Color(image).enhance(factor)


def adjust_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turns the hue by `shift` of a full turn, cut to 1/255, in PIL's HSV of 8 bits a channel."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.int32(shift * 255).astype(np.uint8)  # wraps around, as hues do
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _place(length: int, crop: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Returns (start in the crop, start in the image, extent) along one axis."""
    offset = int(rng.integers(abs(length - crop), endpoint=True))
    return (0, offset, crop) if length > crop else (offset, 0, length)


def _rescaled(image: np.ndarray, scale: float, how: Image.Resampling) -> np.ndarray:
    if scale == 1:
        return image
    height, width = image.shape[:2]
    return _resize(image, max(1, round(height * scale)), max(1, round(width * scale)), how)


def _resize(image: np.ndarray, height: int, width: int, how: Image.Resampling = _BICUBIC) -> np.ndarray:
    """Resizes uint8[H, W, ...] to (height, width) as PIL does, antialiased when a bicubic one shrinks."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), how))
