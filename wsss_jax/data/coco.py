"""MS COCO 2014 (T.-Y. Lin et al., ECCV 2014), read from its extracted archives.

Layout below the root: `train2014/*.jpg`, `val2014/*.jpg` and `annotations/instances_{train,val}2014.json`,
of which `python -m wsss_jax.prepare coco14 ROOT` makes, once, `wsss_jax/{train,val}2014.npz` (sizes and
image-level labels) and the masks `SegmentationClass/{train,val}2014/ID.png`.
"""

import dataclasses
import functools
import zipfile
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from wsss_jax.data import images, lists
from wsss_jax.errors import DataError
from wsss_jax.files import write_whole

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in _UNUSED_IDS)
"""The category id of each class, in instances_*.json."""

FOLDERS = ("train2014", "val2014")
_SPLITS = {
    "train": ("train2014", False),
    "train_labelled": ("train2014", True),
    "val": ("val2014", False),
    "val_labelled": ("val2014", True),
}  # the folder, and whether images without any class are left out


class Index(NamedTuple):
    """The images of a folder in ascending number, read from instances_*.json.

    Attributes:
      ids: str[N], file names without extension.
      sizes: int32[N, 2], (H, W).
      labels: bool[N, 80], whether an annotation of the class is there, crowds included.
    """

    ids: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Coco:
    """The 80 classes of COCO 2014; `root` is the folder that holds `train2014` and `annotations`.

    Splits: train (82,783 images) and val (40,504), in ascending number, and train_labelled (82,081) and
    val_labelled (40,137) without the images that show none of the classes.
    Labels are all categories with an annotation in the image, regions marked as crowds included.
    Masks have no void pixels: crowds and what is not annotated are background.
    """

    root: str

    name: ClassVar[str] = "coco14"
    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self) -> None:
        if not any(Path(self.root, folder).is_dir() for folder in FOLDERS):
            raise DataError(
                f"dataset.root: {self.root} has neither a folder train2014 nor val2014; give the one that "
                "COCO's archives were extracted into"
            )

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the ids of a split or of a list file, whose lines may be bare image numbers too."""
        if lists.is_list_path(split):
            found = [self._id(line, f"{split} line {number}") for number, line in lists.read_lines(split)]
            return self._present(lists.check_ids(found, split), split)
        if split not in _SPLITS:
            raise DataError(f"split {split!r}: COCO 2014 has {', '.join(_SPLITS)} (or give a list's path)")
        folder, labelled = _SPLITS[split]
        index = self._indexes.get(folder) or read_index(Path(self.root), folder)
        chosen = index.ids[index.labels.any(1)] if labelled else index.ids
        return self._present(lists.check_ids(chosen.tolist(), f"split {split!r}"), f"split {split!r}")

    def size(self, image_id: str) -> tuple[int, int]:
        """Returns (H, W) in pixels, from the index."""
        index, row = self._row(image_id)
        return int(index.sizes[row, 0]), int(index.sizes[row, 1])

    def image_path(self, image_id: str) -> Path:
        """Returns the image's file."""
        return self._path(image_id, "", ".jpg")

    def image(self, image_id: str) -> np.ndarray:
        """Returns the image, uint8[H, W, 3], RGB."""
        return images.decode_image(self.image_path(image_id), image_id)

    def labels(self, image_id: str) -> np.ndarray:
        """Returns float32[80] of 0/1; zeros where the image has no annotation."""
        index, row = self._row(image_id)
        return index.labels[row].astype(np.float32)

    def has_mask(self, image_id: str) -> bool:
        """Whether `prepare` has painted its mask."""
        return self._path(image_id, "SegmentationClass", ".png").exists()

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W] with 0 background, 1 to 80 classes; None where `prepare` has painted none."""
        path = self._path(image_id, "SegmentationClass", ".png")
        return images.read_mask(path, image_id, len(CLASSES), self.size(image_id)) if path.exists() else None

    @functools.cached_property
    def _indexes(self) -> dict[str, Index]:
        """The indexes that there are."""
        there = [folder for folder in FOLDERS if index_path(Path(self.root), folder).exists()]
        return {folder: read_index(Path(self.root), folder) for folder in there or FOLDERS[:1]}

    @functools.cached_property
    def _rows(self) -> dict[str, tuple[Index, int]]:
        """Where each image is in the indexes."""
        return {str(i): (index, row) for index in self._indexes.values() for row, i in enumerate(index.ids)}

    @functools.cached_property
    def _numbers(self) -> dict[int, str]:
        """Ids by image number."""
        return {number_of(image_id): image_id for image_id in self._rows}

    def _row(self, image_id: str) -> tuple[Index, int]:
        if image_id not in self._rows:
            raise DataError(f"image {image_id!r}: COCO's annotations below {self.root} have no such image")
        return self._rows[image_id]

    def _id(self, line: str, where: str) -> str:
        found = self._numbers.get(int(line)) if line.isascii() and line.isdigit() else line
        if found not in self._rows:
            raise DataError(f"{where}: {line!r} is no image of COCO's annotations below {self.root}")
        return str(found)

    def _path(self, image_id: str, below: str, extension: str) -> Path:
        return Path(self.root, below, folder_of(image_id), image_id + extension)

    def _present(self, ids: tuple[str, ...], where: str) -> tuple[str, ...]:
        """Raises DataError if an id has no image; a directory listing instead of a file query per id."""
        there = {path.stem for folder in FOLDERS for path in Path(self.root, folder).glob("*.jpg")}
        missing = [image_id for image_id in ids if image_id not in there]
        if missing:
            raise DataError(
                f"{where}: {len(missing)} of {len(ids)} images, the first {missing[0]!r}, are not below "
                f"{self.root}; complete {folder_of(missing[0])}, or give the path of a list of those you have"
            )
        return ids


def folder_of(image_id: str) -> str:
    """The folder of an image's file, 'train2014' for COCO_train2014_000000000009."""
    return image_id.split("_")[1] if image_id.count("_") == 2 else ""


def number_of(image_id: str) -> int:
    """The number in an image's id, 9 for COCO_train2014_000000000009."""
    return int(image_id.rpartition("_")[2])


def index_path(root: Path, folder: str) -> Path:
    """The file that holds the index of a folder."""
    return root / "wsss_jax" / f"{folder}.npz"


def write_index(root: Path, folder: str, index: Index) -> None:
    """Writes an index, whole or not at all."""
    arrays = {"ids": index.ids, "sizes": index.sizes, "labels": np.packbits(index.labels, axis=1)}
    write_whole(
        index_path(root, folder), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)
    )


def read_index(root: Path, folder: str) -> Index:
    """Reads what `write_index` wrote.

    Raises:
      DataError: there is none, or it is damaged; the message has the command that makes it.
    """
    path, command = index_path(root, folder), f"python -m wsss_jax.prepare coco14 {root}"
    try:
        with np.load(path, allow_pickle=False) as file:
            labels = np.unpackbits(file["labels"], axis=1, count=len(CLASSES)).astype(bool)
            return Index(file["ids"], file["sizes"], labels)
    except FileNotFoundError as error:
        raise DataError(f"{path}: COCO is not prepared yet; run once: {command}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: damaged; delete it and run again: {command}") from error
