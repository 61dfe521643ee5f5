"""A tiny PASCAL VOC devkit with drawn images, for tests that need files on disk."""

from pathlib import Path

import numpy as np
from PIL import Image

from wsss_jax.data.images import voc_palette
from wsss_jax.data.voc import CLASSES


def make_voc(
    root: Path,
    num_train: int = 4,
    num_val: int = 2,
    num_aug: int = 3,
    size: tuple[int, int] = (40, 60),
    seed: int = 0,
) -> Path:
    """Writes `VOCdevkit/VOC2012` below `root` and returns that folder.

    Image number i, counted from 1, is `2007_00000i`: the train images, then val, then those only in
    SegmentationClassAug. It shows class i mod 20 as a rectangle in its palette colour on noise, for even i
    also class (i + 7) mod 20. Official masks have a void border of one pixel around objects; SBD's have none.
    """
    voc = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationClassAug"):
        (voc / folder).mkdir(parents=True)
    ids = [f"2007_{i:06d}" for i in range(1, num_train + num_val + num_aug + 1)]
    rng = np.random.default_rng(seed)
    for number, image_id in enumerate(ids, 1):
        _write_image(voc, image_id, number, size, rng, official=number <= num_train + num_val)
    train, val = ids[:num_train], ids[num_train : num_train + num_val]
    write_splits(voc, {"train": train, "val": val, "trainval": train + val})
    return voc


def write_splits(voc: Path, splits: dict[str, list[str]]) -> None:
    """Writes list files to `ImageSets/Segmentation`."""
    folder = voc / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in splits.items():
        (folder / f"{name}.txt").write_text("".join(f"{i}\n" for i in ids))


def write_annotation(voc: Path, image_id: str, names: list[str], difficult: bool = False) -> None:
    """Writes an XML annotation with one object per name."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult>"
        "<part><name>head</name></part></object>"
        for name in names
    )
    (voc / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes uint8[H, W] as a PNG with VOC's palette."""
    picture = Image.fromarray(mask)
    picture.putpalette(voc_palette().tobytes())
    picture.save(path)


def classes_of(number: int) -> list[int]:
    """Class indices that image `number` (from 1) shows."""
    first = number % 20
    return [first] if number % 2 else [first, (number + 7) % 20]


def _write_image(
    voc: Path, image_id: str, number: int, size: tuple[int, int], rng: np.random.Generator, official: bool
) -> None:
    height, width = size
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    void = np.zeros(size, bool)
    classes = classes_of(number)
    for place, c in enumerate(classes):
        left = 2 + place * width // 2
        rows, columns = slice(height // 4, 3 * height // 4), slice(left, left + width // 2 - 5)
        pixels[rows, columns] = voc_palette()[c + 1]
        mask[rows, columns] = c + 1
        void[rows.start - 1 : rows.stop + 1, columns.start - 1 : columns.stop + 1] = True
        void[rows, columns] = False
    Image.fromarray(pixels).save(voc / "JPEGImages" / f"{image_id}.jpg", quality=95)
    write_annotation(voc, image_id, [CLASSES[c] for c in classes])
    write_mask(voc / "SegmentationClassAug" / f"{image_id}.png", mask)
    if official:
        write_mask(voc / "SegmentationClass" / f"{image_id}.png", np.where(void & (mask == 0), 255, mask))
