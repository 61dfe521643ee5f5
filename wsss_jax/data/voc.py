"""PASCAL VOC 2012, read from an extracted devkit (Everingham et al., IJCV 2015), with SBD's additional masks.

Layout below the root: `JPEGImages/ID.jpg`, `Annotations/ID.xml`, `SegmentationClass/ID.png`,
`ImageSets/Segmentation/{train,val,trainval}.txt` and, once the masks of the Semantic Boundaries Dataset
(Hariharan et al., ICCV 2011) are added, `SegmentationClassAug/ID.png`.
"""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from wsss_jax.data import images, lists
from wsss_jax.errors import DataError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Voc:
    """The 20 classes of VOC 2012; `root` is the folder that holds `JPEGImages`, usually `VOCdevkit/VOC2012`.

    Splits: those of `ImageSets/Segmentation` (train, val, trainval), and `train_aug`: every id with a mask in
    `SegmentationClassAug` that is not in `val`, sorted. A `train_aug.txt` is not consulted.
    Labels are all classes named in the image's XML, objects marked difficult included.
    Masks are the official ones, with void borders, where there are any, else SBD's.
    """

    root: str

    name: ClassVar[str] = "voc12"
    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self) -> None:
        _check_root(Path(self.root))

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the ids of 'train', 'val', 'trainval', 'train_aug' or of a list file (see `Source`)."""
        if split == "train_aug":
            ids, where = self._train_aug_ids(), "split 'train_aug'"
        else:
            path = self._list_path(split)
            ids, where = (
                [_id_of_line(line, path, number) for number, line in lists.read_lines(path)],
                str(path),
            )
        checked = lists.check_ids(ids, where)
        self._check_images(checked, where)
        return checked

    def size(self, image_id: str) -> tuple[int, int]:
        """Returns (H, W) in pixels, from the JPEG header."""
        return images.header_size(self.image_path(image_id), image_id)

    def image_path(self, image_id: str) -> Path:
        """Returns the image's file."""
        return self._path("JPEGImages", image_id, ".jpg")

    def image(self, image_id: str) -> np.ndarray:
        """Returns the image, uint8[H, W, 3], RGB."""
        return images.decode_image(self.image_path(image_id), image_id)

    def labels(self, image_id: str) -> np.ndarray:
        """Returns float32[20] of 0/1; zeros where the XML names no object."""
        path = self._path("Annotations", image_id, ".xml")
        labels = np.zeros(len(CLASSES), np.float32)
        for name in _object_names(path, image_id):
            if name not in CLASSES:
                raise DataError(
                    f"image {image_id!r}: {path} names {name!r}, which is not one of VOC's 20 classes"
                )
            labels[CLASSES.index(name)] = 1
        return labels

    def has_mask(self, image_id: str) -> bool:
        """Whether there is a mask, an official one or SBD's."""
        return self._mask_path(image_id) is not None

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W] with 0 background, 1 to 20 classes, 255 void; None where there is no mask."""
        path = self._mask_path(image_id)
        return None if path is None else images.read_mask(path, image_id, len(CLASSES), self.size(image_id))

    def _mask_path(self, image_id: str) -> Path | None:
        paths = (
            self._path(folder, image_id, ".png") for folder in ("SegmentationClass", "SegmentationClassAug")
        )
        return next((path for path in paths if path.exists()), None)

    def _path(self, folder: str, image_id: str, extension: str) -> Path:
        return Path(self.root, folder, image_id + extension)

    def _list_path(self, split: str) -> Path:
        """Returns the list file of a split given by name or by path."""
        folder = Path(self.root, "ImageSets", "Segmentation")
        named = folder / f"{split}.txt"
        if lists.is_list_path(split):
            return Path(split)
        if named.exists():
            return named
        if not folder.is_dir():
            raise DataError(
                f"split {split!r}: there is no folder {folder}; extract it, or give a list file's path"
            )
        known = sorted({*_stems(folder, ".txt"), "train_aug"})
        near = difflib.get_close_matches(split, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise DataError(f"split {split!r} is not in {folder}; {hint} (or give the path of a .txt file)")

    def _train_aug_ids(self) -> list[str]:
        folder = Path(self.root, "SegmentationClassAug")
        if not folder.is_dir():
            raise DataError(
                f"split 'train_aug' needs the SBD masks in {folder}, which does not exist; extract "
                "SegmentationClassAug there, or train on 'train'"
            )
        return sorted(_stems(folder, ".png") - set(self.ids("val")))

    def _check_images(self, ids: tuple[str, ...], where: str) -> None:
        """Raises DataError if an id has no image; one directory listing instead of a file query per id."""
        present = _stems(Path(self.root, "JPEGImages"), ".jpg")
        missing = [image_id for image_id in ids if image_id not in present]
        if missing:
            raise DataError(
                f"{where}: {len(missing)} of {len(ids)} ids, the first {missing[0]!r}, have no image in "
                f"{Path(self.root, 'JPEGImages')}; complete the folder or shorten the list"
            )


def _stems(folder: Path, extension: str) -> set[str]:
    """Returns the names without extension of a folder's files with that extension, hidden files left out."""
    if not folder.is_dir():
        return set()
    names = os.listdir(folder)
    return {name.removesuffix(extension) for name in names if name.endswith(extension) and name[0] != "."}


def _id_of_line(line: str, path: Path, number: int) -> str:
    """Returns the id in a list's line: `ID`, or psa's `/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`."""
    first, *rest = line.split()
    if first.endswith(".jpg"):
        return Path(first).stem
    if rest:
        raise DataError(
            f"{path} line {number}: expected one image id, found {line!r}; "
            "lists of ImageSets/Main, which end in 1 or -1, are not lists of images to use"
        )
    return first


def _object_names(path: Path, image_id: str) -> list[str]:
    """Returns the class names of an annotation's objects (not of their parts)."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except FileNotFoundError as e:
        raise DataError(f"image {image_id!r}: no annotation {path}; its labels are unknown") from e
    except (ElementTree.ParseError, ValueError, LookupError) as e:
        raise DataError(f"image {image_id!r}: {path} is not valid XML ({e}); restore the file") from e
    except OSError as e:
        raise DataError(f"image {image_id!r}: cannot read {path}: {e.strerror or e}") from e
    return [(element.findtext("name") or "").strip() for element in objects]


def _check_root(root: Path) -> None:
    """Raises DataError unless the root is the devkit's VOC2012 folder, naming that folder if it is near."""
    if (root / "JPEGImages").is_dir():
        return
    if not root.exists():
        raise DataError(
            f"dataset.root: {root} does not exist; give the VOC2012 folder of an extracted VOCdevkit"
        )
    near = [*(root / sub for sub in ("VOC2012", "VOCdevkit/VOC2012")), *root.absolute().parents[:3]]
    for candidate in near:
        if (candidate / "JPEGImages").is_dir():
            raise DataError(f"dataset.root: {root} is not the devkit's image set folder; give {candidate}")
    raise DataError(
        f"dataset.root: {root} has no folder JPEGImages; give the VOC2012 folder of an extracted VOCdevkit"
    )
