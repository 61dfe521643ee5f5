"""A plain folder of one's own images.

Layout below the root:

    classes.txt         one class name a line; the first is class 0 (mask value 1); none for background
    images/             .jpg .jpeg .png .webp .bmp .gif .tif .tiff, subfolders allowed; the id of
                        `images/a/b.jpg` is `a/b`
    labels.csv          header `image,labels`, then a line per image: its id or file name, and its classes
                        separated by ';', as in `a/b.jpg,cat;potted plant`, or `a/c.jpg,` if it shows none
    masks/a/b.png       optional: 8-bit indices (0 background, c + 1 class c, 255 void)
    splits/NAME.txt     optional: one image id or file name a line

The split `all` is every image in `images/`, sorted by id.
"""

import csv
import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from wsss_jax.data import images, lists
from wsss_jax.data.images import EXTENSIONS
from wsss_jax.errors import DataError

MAX_CLASSES = 254
"""Mask values are bytes: 0 is the background and 255 void."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """The images, labels and masks below `root`, laid out as this module's docstring says.

    Everything is read when first asked for: `labels.csv` and `masks/` are needed only by what uses them.
    """

    root: str

    name: ClassVar[str] = "folder"

    def __post_init__(self) -> None:
        root = Path(self.root)
        if not root.is_dir():
            raise DataError(
                f"dataset.root: {root} is not a folder; give the one with images/ and classes.txt"
            )
        for needed in ("images", "classes.txt"):
            if not (root / needed).exists():
                raise DataError(f"dataset.root: {root} has no {needed}; a folder data set needs it")

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of `classes.txt`."""
        return _read_classes(Path(self.root, "classes.txt"))

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the ids of 'all', of `splits/<split>.txt` or of a list file given by its path."""
        if split == "all" and not Path(self.root, "splits", "all.txt").exists():
            return tuple(sorted(self._files))
        path = self._list_path(split)
        ids = [self._resolve(line, f"{path} line {number}") for number, line in lists.read_lines(path)]
        return lists.check_ids(ids, str(path))

    def size(self, image_id: str) -> tuple[int, int]:
        """Returns (H, W) in pixels, from the file's header."""
        return images.header_size(self._image_path(image_id), image_id)

    def image(self, image_id: str) -> np.ndarray:
        """Returns the image, uint8[H, W, 3], RGB."""
        return images.decode_image(self._image_path(image_id), image_id)

    def labels(self, image_id: str) -> np.ndarray:
        """Returns float32[C] of 0/1; zeros where its line in `labels.csv` names no class."""
        if image_id not in self._labels:
            where = Path(self.root, "labels.csv")
            raise DataError(
                f"image {image_id!r}: no line in {where}; add one (`{image_id},` if it shows none of the "
                "classes), or leave the image out of the split"
            )
        labels = np.zeros(len(self.classes), np.float32)
        labels[list(self._labels[image_id])] = 1
        return labels

    def has_mask(self, image_id: str) -> bool:
        """Whether `masks/<id>.png` is there."""
        return self._mask_path(image_id).exists()

    def mask(self, image_id: str) -> np.ndarray | None:
        """Returns uint8[H, W] from `masks/<id>.png`, or None if there is no such file."""
        path = self._mask_path(image_id)
        if path.exists():
            return images.read_mask(path, image_id, len(self.classes), self.size(image_id))
        for extension in EXTENSIONS:
            other = path.with_name(path.name.removesuffix(".png") + extension)
            if other.exists():
                raise DataError(
                    f"mask of {image_id!r}: {other} must be a PNG: other formats may change class indices"
                )
        return None

    def _mask_path(self, image_id: str) -> Path:
        return Path(self.root, "masks", f"{image_id}.png")

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        """Path below `images/` of each id's file."""
        files: dict[str, str] = {}
        base = Path(self.root, "images")
        for path in _walk(base):
            image_id = _without_extension(path)
            lists.check_id(image_id, str(base))
            if image_id in files:
                raise DataError(
                    f"{base}: {files[image_id]} and {path} have the same id {image_id!r}; rename one"
                )
            files[image_id] = path
        if not files:
            raise DataError(f"{base} has no image; it takes {', '.join(EXTENSIONS)}")
        return files

    @functools.cached_property
    def _labels(self) -> dict[str, tuple[int, ...]]:
        """Class indices of each id with a line in `labels.csv`."""
        path = Path(self.root, "labels.csv")
        labels: dict[str, tuple[int, ...]] = {}
        for number, image, names in _read_csv(path):
            where = f"{path} line {number}"
            image_id = self._resolve(image, where)
            if image_id in labels:
                raise DataError(
                    f"{where}: image {image_id!r} has a line already; put its classes on one line"
                )
            labels[image_id] = tuple(self._class_index(name, where) for name in names)
        return labels

    def _class_index(self, name: str, where: str) -> int:
        if name in self.classes:
            return self.classes.index(name)
        near = difflib.get_close_matches(name, self.classes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it lists {', '.join(self.classes)}"
        if re.split(r"[|,/\s]", name)[0] in self.classes:
            hint = "separate classes by ';'"
        raise DataError(f"{where}: {name!r} is not in classes.txt; {hint}")

    def _resolve(self, entry: str, where: str) -> str:
        """Returns the id meant by an entry of a list or of labels.csv: an id or a file name."""
        key = entry.replace("\\", "/").removeprefix("./").removeprefix("images/")
        lists.check_id(key, where)
        if key in self._files:
            return key
        image_id = _without_extension(key)
        if self._files.get(image_id) == key:
            return image_id
        raise DataError(f"{where}: there is no image {entry!r} in {Path(self.root, 'images')}")

    def _image_path(self, image_id: str) -> Path:
        if image_id not in self._files:
            raise DataError(f"image {image_id!r}: no such image in {Path(self.root, 'images')}")
        return Path(self.root, "images", self._files[image_id])

    def _list_path(self, split: str) -> Path:
        """Returns the list file of a split given by name or by path."""
        if lists.is_list_path(split):
            return Path(split)
        folder = Path(self.root, "splits")
        path = folder / f"{split}.txt"
        if path.exists():
            return path
        known = ["all", *sorted(p.stem for p in folder.glob("*.txt"))]
        raise DataError(
            f"split {split!r}: no such file {path}; there are {', '.join(known)}, or give a .txt path"
        )


def _walk(base: Path) -> Iterator[str]:
    """Yields the paths of all image files below a folder, '/'-separated; follows links, not in circles."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(base, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = [
            s for s in sorted(subfolders) if os.path.realpath(os.path.join(folder, s)) not in seen
        ]
        for name in sorted(names):
            if name[0] != "." and name.lower().endswith(EXTENSIONS):
                yield Path(folder, name).relative_to(base).as_posix()


def _without_extension(path: str) -> str:
    stem, extension = os.path.splitext(path)
    return stem if extension.lower() in EXTENSIONS else path


def _read_classes(path: Path) -> tuple[str, ...]:
    """Returns the class names of a classes.txt."""
    names: list[str] = []
    for number, name in lists.read_lines(path):
        where = f"{path} line {number}"
        if name in names:
            raise DataError(f"{where}: class {name!r} is listed twice")
        if name.lower() == "background":
            raise DataError(
                f"{where}: remove 'background'; only foreground classes are listed, index 0 is implied"
            )
        if ";" in name:
            raise DataError(f"{where}: class name {name!r} holds ';', which separates classes in labels.csv")
        names.append(name)
    if not 1 <= len(names) <= MAX_CLASSES:
        raise DataError(f"{path} lists {len(names)} classes; there must be 1 to {MAX_CLASSES}, one a line")
    return tuple(names)


def _read_csv(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yields (line number, image, class names) of a labels.csv."""
    try:
        # utf-8-sig: spreadsheet programs put a byte order mark in front.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            if header != ["image", "labels"]:
                raise DataError(
                    f"{path} line 1: expected the header 'image,labels', found {','.join(header)!r}"
                )
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield _parse_row(row, f"{path} line {reader.line_num}", reader.line_num)
    except FileNotFoundError as e:
        raise DataError(f"no such file: {path}; write it with the header 'image,labels'") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from e
    except csv.Error as e:
        raise DataError(f"{path} line {reader.line_num}: {e}") from e


def _parse_row(row: list[str], where: str, number: int) -> tuple[int, str, list[str]]:
    if len(row) != 2:
        raise DataError(
            f"{where}: expected 2 columns, the image and its classes, found {len(row)}; "
            "separate classes by ';' and quote names that hold a comma"
        )
    names = [name.strip() for name in row[1].split(";")]
    return number, row[0].strip(), [name for name in names if name]
