"""Other people's folders: images and maps that go together, and label maps of what comes out.

Imports no JAX.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsss_jax.data.class_maps import MOST_CLASSES, SUFFIXES, ClassMaps, ImageMaps, read_maps, write_maps
from wsss_jax.data.images import EXTENSIONS, decode_image, header_size, palette_png
from wsss_jax.data.lists import check_id
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.refinement.energies import cam_energies, confident_labels, threshold_energies
from wsss_jax.refinement.jobs import CamJobs, Refined, Refused
from wsss_jax.refinement.pseudo import relative_foreground


class Pair(NamedTuple):
    """An image and its maps."""

    image: Path
    maps: Path


@dataclass(frozen=True)
class Pairs:
    """The images of a folder that have maps in another one, by id: the path below it without extension.

    Attributes:
      files: those that can be refined.
      refused: maps without an image, and those of which it is not clear what belongs together.
    """

    files: Mapping[str, Pair]
    refused: tuple[Refused, ...] = ()

    def image(self, image_id: str) -> np.ndarray:
        """The image uint8[H, W, 3], in its stored orientation, as the maps' makers read it."""
        return decode_image(self.files[image_id].image, image_id)

    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of the image, from its header."""
        return header_size(self.files[image_id].image, image_id)

    def read(self, image_id: str) -> tuple[np.ndarray, ClassMaps]:
        """The image and its maps; DataError if they cannot be used."""
        image = self.image(image_id)
        return image, read_maps(self.maps(image_id), image_id, image.shape[:2])

    def maps(self, image_id: str) -> Path:
        """The file with its maps."""
        return self.files[image_id].maps


def pair_files(images: str | Path, cams: str | Path) -> Pairs:
    """Finds the image of every file of maps; images without maps are left alone.

    Raises:
      ConfigError: a folder does not exist or holds nothing of its kind, or no maps have an image.
    """
    found = _by_id(Path(images), EXTENSIONS, "--images")
    maps = _by_id(Path(cams), SUFFIXES, "--cams")
    files, refused = {}, []
    for image_id in sorted(maps):
        reason = _why_no_pair(image_id, found.get(image_id, []), maps[image_id], images)
        if reason:
            refused.append(Refused(image_id, reason))
        else:
            files[image_id] = Pair(found[image_id][0], maps[image_id][0])
    if not files:
        raise ConfigError(f"--cams={cams}: none of the maps has its image in {images}; {refused[0].reason}")
    return Pairs(files, tuple(refused))


def _why_no_pair(image_id: str, found: Sequence[Path], maps: Sequence[Path], images: str | Path) -> str:
    """Why an image and its maps cannot be told; '' if they can."""
    for paths in (found, maps):
        if len(paths) > 1:
            return f"{paths[0]} and {paths[1]} are both of image {image_id!r}; remove one"
    if not found:
        return f"{maps[0]}: there is no image {image_id!r} in {images} ({', '.join(EXTENSIONS)})"
    try:
        check_id(image_id, str(maps[0].parent))
    except DataError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class ScoreTask:
    """psa's way: scores for several exponents of the background score, and their argmax."""

    alphas: tuple[float, ...]

    def load(self, pairs: Pairs) -> CamJobs:
        """What reads an image."""
        energies = functools.partial(cam_energies, alphas=self.alphas)
        return CamJobs(pairs.image, pairs.maps, energies, MOST_CLASSES)

    def folders(self, out: Path) -> list[Path]:
        """Where the results of each exponent go."""
        return [out / f"alpha_{alpha:02g}" for alpha in self.alphas]

    def labels(self, result: Refined) -> list[np.ndarray]:
        """A label map uint8[H, W] for each exponent: 0 background, class + 1."""
        return [(ids + 1).astype(np.uint8)[planes.argmax(axis=0)] for ids, planes in result.maps]


@dataclass(frozen=True)
class LabelTask:
    """IRN's way: training labels of what is confident at a high and a low background threshold."""

    high: float
    low: float

    def load(self, pairs: Pairs) -> CamJobs:
        """What reads an image."""
        energies = functools.partial(threshold_energies, thresholds=(self.high, self.low))
        return CamJobs(pairs.image, pairs.maps, energies, MOST_CLASSES)

    def folders(self, out: Path) -> list[Path]:
        """Where the labels go."""
        return [out]

    def labels(self, result: Refined) -> list[np.ndarray]:
        """The label map uint8[H, W]: 0 background, class + 1, 255 where it is not clear."""
        high, low = (maps.planes.argmax(axis=0) for maps in result.maps)
        return [confident_labels(high, low, result.maps[0].foreground.class_ids)]


Task = ScoreTask | LabelTask


def is_done(task: Task, out: Path, scores: bool, image_id: str) -> bool:
    """Whether all files of an image are there and whole."""
    suffixes = (".png", ".npz") if scores else (".png",)
    return all(is_whole(folder / (image_id + suffix)) for folder in task.folders(out) for suffix in suffixes)


def write_result(task: Task, out: Path, scores: bool, result: Refined) -> None:
    """Writes the label maps as palette PNGs and, if wanted, the scores, as the stage `crf` does."""
    for i, (folder, labels) in enumerate(zip(task.folders(out), task.labels(result), strict=True)):
        path = folder / f"{result.image_id}.png"
        if scores:
            write_maps(path.with_name(path.stem + ".npz"), result.maps[i])
        write_bytes(path, palette_png(labels))


def write_propagated(pairs: Pairs, out: Path, stride: int, level: float, result: ImageMaps) -> None:
    """Writes the mask of propagated scores: a class where its relative score is above `level`."""
    foreground = relative_foreground(result.maps, stride, pairs.size(result.image_id))
    write_bytes(out / f"{result.image_id}.png", palette_png(foreground.labels(level)))


def _by_id(folder: Path, suffixes: Sequence[str], flag: str) -> dict[str, list[Path]]:
    """Files with one of the suffixes, by their path below the folder without it."""
    if not folder.is_dir():
        raise ConfigError(f"{flag}={folder}: there is no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not found:
        raise ConfigError(f"{flag}={folder}: holds no {', '.join(suffixes)} files")
    return found
