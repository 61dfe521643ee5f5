"""COCO's instances_*.json: what is in it, and masks painted from it by COCO's own rasteriser."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wsss_jax.data.coco import CATEGORY_IDS, CLASSES, Index
from wsss_jax.errors import ConfigError, DataError

_CLASS_OF = {category: c for c, category in enumerate(CATEGORY_IDS)}


class Annotated(NamedTuple):
    """An image and its annotations, in the order of the file."""

    image_id: str
    size: tuple[int, int]  # H, W
    annotations: tuple[dict[str, Any], ...]


def read_annotations(path: Path) -> list[Annotated]:
    """Reads instances_*.json; images come in ascending number.

    Raises:
      DataError: the file is missing, cut off or of another kind, an image is listed twice, or an annotation
        has a category or an image that is not COCO 2014's.
    """
    try:
        content = json.loads(path.read_bytes())
        images = {image["id"]: image for image in content["images"]}
        annotations = content["annotations"]
        if len(images) < len(content["images"]):
            raise DataError(f"{path}: {_first_repeated(content['images'])} is listed twice; restore the file")
        of_image: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
        for annotation in annotations:
            _check(annotation, images, path)
            of_image[annotation["image_id"]].append(annotation)
        return [_annotated(images[number], of_image[number], path) for number in sorted(images)]
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}; extract COCO's annotations_trainval2014.zip") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(f"{path}: not a whole instances file of COCO ({reason}); restore it") from error


def make_index(images: list[Annotated]) -> Index:
    """Ids, sizes and image-level labels."""
    labels = np.zeros((len(images), len(CLASSES)), bool)
    for row, image in enumerate(images):
        labels[row, [class_of(annotation) for annotation in image.annotations]] = True
    sizes = np.array([image.size for image in images], np.int32).reshape(-1, 2)
    return Index(np.array([image.image_id for image in images]), sizes, labels)


def class_of(annotation: Mapping[str, Any]) -> int:
    """The class, counted from 0, of an annotation."""
    return _CLASS_OF[annotation["category_id"]]


def check_installed() -> None:
    """ConfigError if pycocotools, which paints the masks, is not installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise ConfigError("painting COCO's masks needs pycocotools; pip install 'wsss-jax[coco]'")


def paint(image: Annotated) -> tuple[np.ndarray, list[str]]:
    """Paints an image's mask, in the order of the file, later annotations over earlier ones.

    Regions marked as crowds are left out, as in COCO's and WaveCAM's masks.

    Returns:
      uint8[H, W], 0 background, class + 1; and a line for each annotation that could not be painted.
    """
    mask, problems = np.zeros(image.size, np.uint8), list[str]()
    for annotation in image.annotations:
        if annotation.get("iscrowd"):
            continue
        try:
            mask[region(annotation["segmentation"], image.size)] = class_of(annotation) + 1
        except (DataError, KeyError, TypeError, ValueError) as error:
            number = annotation.get("id")
            problems.append(
                f"image {image.image_id!r}: annotation {number} is left out of the mask ({error})"
            )
    return mask, problems


def region(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels bool[H, W] of polygons [[x, y, x, y, ...], ...] or of COCO's run lengths.

    Raises:
      DataError: a polygon has fewer than three points, or run lengths are of another size.
    """
    from pycocotools import mask as rasteriser  # an extra

    if isinstance(segmentation, list):
        # pycocotools would take a polygon of two points for a box.
        if any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation) or not segmentation:
            raise DataError("a polygon needs three points or more")
        runs = rasteriser.merge(rasteriser.frPyObjects(segmentation, *size))
    else:
        _check_runs(segmentation, size)
        packed = not isinstance(segmentation["counts"], list)
        runs = segmentation if packed else rasteriser.frPyObjects(segmentation, *size)
    return rasteriser.decode(runs).astype(bool)


def _check_runs(segmentation: Mapping[str, Any], size: tuple[int, int]) -> None:
    """DataError unless run lengths are of the image's size and, where they are plain, add up to it."""
    if tuple(segmentation["size"]) != size:
        raise DataError(f"its run lengths are of size {segmentation['size']}, the image of {list(size)}")
    counts = segmentation["counts"]
    if isinstance(counts, list) and (sum(counts) != size[0] * size[1] or min(counts) < 0):
        raise DataError(f"its run lengths add up to {sum(counts)} pixels instead of {size[0] * size[1]}")


def _annotated(image: Mapping[str, Any], annotations: list[dict[str, Any]], path: Path) -> Annotated:
    image_id, size = Path(image["file_name"]).stem, (int(image["height"]), int(image["width"]))
    if image_id.count("_") != 2 or not image_id.rpartition("_")[2].isdigit():
        raise DataError(
            f"{path}: the file name {image['file_name']!r} is not COCO 2014's; it should be such as "
            "COCO_train2014_000000000009.jpg"
        )
    return Annotated(image_id, size, tuple(annotations))


def _check(annotation: Mapping[str, Any], images: Mapping[int, Any], path: Path) -> None:
    if annotation["category_id"] not in _CLASS_OF:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} has category {annotation['category_id']}, which is "
            "not one of COCO's 80; restore the file"
        )
    if annotation["image_id"] not in images:
        raise DataError(
            f"{path}: annotation {annotation.get('id')} is of image {annotation['image_id']}, which the file "
            "does not list; restore the file"
        )


def _first_repeated(images: list[dict[str, Any]]) -> str:
    def repeated() -> Iterator[str]:
        seen = set()
        for image in images:
            if image["id"] in seen:
                yield f"image {image['id']}"
            seen.add(image["id"])

    return next(repeated())
