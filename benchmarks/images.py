"""Images to measure with: those of a VOC devkit, or drawn ones whose sizes are distributed alike."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from benchmarks.row import Settings
from wsss_jax.data.source import Source
from wsss_jax.data.voc import CLASSES, Voc

Size = tuple[int, int]  # (height, width) in pixels

# Short sides of images whose long side is 500, and their shares among 1,100 images of VOC 2012.
_COMMON_SHORT_SIDES = {375: 0.5, 333: 0.15, 332: 0.03, 334: 0.03}
_LONG_SIDE, _LONG_SIDE_SHARE, _PORTRAIT_SHARE = 500, 0.95, 0.2
_SPLIT = "train"


def draw_sizes(count: int, seed: int = 0) -> list[Size]:
    """Sizes (H, W) as they are in VOC 2012: nearly all long sides 500, most short sides 375 or 333."""
    rng = np.random.default_rng(seed)
    common, shares = list(_COMMON_SHORT_SIDES), list(_COMMON_SHORT_SIDES.values())
    sizes = []
    for _ in range(count):
        long = _LONG_SIDE if rng.random() < _LONG_SIDE_SHARE else int(rng.integers(300, _LONG_SIDE))
        other = int(rng.integers(long // 2, long))
        short = min(long, int(rng.choice([*common, other], p=[*shares, 1 - sum(shares)])))
        sizes.append((long, short) if rng.random() < _PORTRAIT_SHARE else (short, long))
    return sizes


@contextlib.contextmanager
def open_images(settings: Settings) -> Iterator[tuple[Source, tuple[str, ...]]]:
    """Gives a source and `settings.images` ids, spread over the list of the split train.

    Raises:
      DataError: `settings.data` is not a devkit's folder VOC2012.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Voc(str(Path(settings.data or draw_devkit(Path(folder), settings.images)).expanduser()))
        ids = source.ids(_SPLIT)
        places = np.linspace(0, len(ids) - 1, min(settings.images, len(ids))).round().astype(int)
        yield source, tuple(ids[i] for i in places)


@dataclasses.dataclass(frozen=True)
class Shrunk:
    """A source whose images have at most `side` pixels on their longer side; 0 changes nothing."""

    source: Source
    side: int

    name: ClassVar[str] = "shrunk"

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.classes

    def ids(self, split: str) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.ids(split)

    def size(self, image_id: str) -> Size:
        """Returns (H, W) after shrinking."""
        height, width = self.source.size(image_id)
        factor = min(1.0, self.side / max(height, width)) if self.side else 1.0
        return max(1, round(height * factor)), max(1, round(width * factor))

    def image(self, image_id: str) -> np.ndarray:
        """Returns uint8[H, W, 3]."""
        return self._resize(self.source.image(image_id), image_id, Image.Resampling.BICUBIC)

    def labels(self, image_id: str) -> np.ndarray:
        """Returns those of the source."""
        return self.source.labels(image_id)

    def has_mask(self, image_id: str) -> bool:
        """Returns what the source does."""
        return self.source.has_mask(image_id)

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W] of the nearest pixels, or None."""
        mask = self.source.mask(image_id)
        return None if mask is None else self._resize(mask, image_id, Image.Resampling.NEAREST)

    def _resize(self, pixels: np.ndarray, image_id: str, how: Image.Resampling) -> np.ndarray:
        height, width = self.size(image_id)
        if pixels.shape[:2] == (height, width):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def draw_devkit(folder: Path, count: int, seed: int = 0) -> Path:
    """Writes a devkit of `count` images with labels and masks, and returns the folder VOC2012 in it."""
    rng, root = np.random.default_rng(seed), folder / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    ids = [f"2012_{i:06d}" for i in range(count)]
    for image_id, size in zip(ids, draw_sizes(count, seed), strict=True):
        _draw(root, image_id, size, rng)
    (root / "ImageSets/Segmentation" / f"{_SPLIT}.txt").write_text("".join(f"{i}\n" for i in ids))
    return root


def _draw(root: Path, image_id: str, size: Size, rng: np.random.Generator) -> None:
    """Clouds with a photograph's grain, so that decoding costs what it costs for photographs."""
    clouds = _clouds(size, rng, 3) + rng.normal(0, 6, (*size, 3))
    Image.fromarray(clouds.clip(0, 255).astype(np.uint8)).save(
        root / "JPEGImages" / f"{image_id}.jpg", quality=90
    )
    labels = np.sort(rng.choice(len(CLASSES), rng.integers(1, 4), replace=False))
    mask = np.zeros(size, np.uint8)
    for label in labels:
        mask[_clouds(size, rng, 1)[..., 0] > 170] = label + 1
    mask[_clouds(size, rng, 1)[..., 0] > 230] = 255
    Image.fromarray(mask).save(root / "SegmentationClass" / f"{image_id}.png")
    objects = "".join(f"<object><name>{CLASSES[label]}</name></object>" for label in labels)
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


def _clouds(size: Size, rng: np.random.Generator, channels: int) -> np.ndarray:
    """float[H, W, channels], smooth, 0 to 255."""
    coarse = rng.integers(0, 256, (size[0] // 24 + 2, size[1] // 24 + 2, channels), dtype=np.uint8)
    planes = [
        Image.fromarray(coarse[..., c]).resize(size[::-1], Image.Resampling.BICUBIC) for c in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1).astype(np.float32)
