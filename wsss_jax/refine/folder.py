"""Other people's folders: pictures and maps that go together, and label maps of what comes out.

Imports no JAX.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from wsss_jax.data.images import decode_image, header_size
from wsss_jax.data.lists import check_id
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.files import write_whole
from wsss_jax.refine.energies import cam_energies, confident_labels, threshold_energies
from wsss_jax.refine.jobs import CamJobs, Refined
from wsss_jax.refine.maps import SUFFIXES, Maps, check_classes, read_maps
from wsss_jax.refine.pseudo import foreground_shares, label_map, palette_png, upsample

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MOST_CLASSES = 254  # that 8-bit label maps hold beside background and void


class Pair(NamedTuple):
    """A picture and its maps."""

    image: Path
    maps: Path


@dataclass(frozen=True)
class Pairs:
    """The pictures of a folder that have maps in another one, by id: the path below it without extension."""

    files: Mapping[str, Pair]

    def image(self, image_id: str) -> np.ndarray:
        """The picture uint8[H, W, 3], in its stored orientation, as the maps' makers read it."""
        return decode_image(self.files[image_id].image, image_id)

    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of the picture, from its header."""
        return header_size(self.files[image_id].image, image_id)

    def read(self, image_id: str) -> tuple[np.ndarray, Maps]:
        """The picture and its maps; DataError if they cannot be used."""
        image = self.image(image_id)
        maps = read_maps(self.maps(image_id), image_id, (image.shape[0], image.shape[1]))
        check_classes(maps, MOST_CLASSES, image_id)
        return image, maps

    def maps(self, image_id: str) -> Path:
        """The file with its maps."""
        return self.files[image_id].maps


def pair_files(images: str | Path, cams: str | Path) -> Pairs:
    """Finds the picture of every file of maps; pictures without maps are left alone.

    Raises:
      ConfigError: a folder does not exist or holds nothing of its kind.
      DataError: maps without a picture, or two files of one id.
    """
    pictures = _by_id(Path(images), _PICTURES, "--images")
    maps = _by_id(Path(cams), SUFFIXES, "--cams")
    for image_id, path in maps.items():
        if image_id not in pictures:
            raise DataError(f"{path}: there is no picture {image_id!r} in {images} ({', '.join(_PICTURES)})")
    return Pairs({image_id: Pair(pictures[image_id], path) for image_id, path in sorted(maps.items())})


@dataclass(frozen=True)
class ScoreTask:
    """psa's way: scores for several exponents of the background score, and their argmax."""

    alphas: tuple[float, ...]

    def load(self, pairs: Pairs) -> CamJobs:
        """What reads a picture."""
        energies = functools.partial(cam_energies, alphas=self.alphas)
        return CamJobs(pairs.image, pairs.maps, energies, MOST_CLASSES)

    def folders(self, out: Path) -> list[Path]:
        """Where the results of each exponent go."""
        return [out / f"alpha_{alpha:02g}" for alpha in self.alphas]

    def labels(self, result: Refined) -> list[np.ndarray]:
        """A label map uint8[H, W] for each exponent: 0 background, class + 1."""
        values = np.concatenate([[0], result.keys + 1]).astype(np.uint8)
        return [values[scores.argmax(axis=0)] for scores in result.scores]


@dataclass(frozen=True)
class LabelTask:
    """IRN's way: training labels of what is confident at a high and a low background threshold."""

    high: float
    low: float

    def load(self, pairs: Pairs) -> CamJobs:
        """What reads a picture."""
        energies = functools.partial(threshold_energies, thresholds=(self.high, self.low))
        return CamJobs(pairs.image, pairs.maps, energies, MOST_CLASSES)

    def folders(self, out: Path) -> list[Path]:
        """Where the labels go."""
        return [out]

    def labels(self, result: Refined) -> list[np.ndarray]:
        """The label map uint8[H, W]: 0 background, class + 1, 255 where it is not clear."""
        high, low = result.scores.argmax(axis=1)
        return [confident_labels(high, low, result.keys)]


Task = ScoreTask | LabelTask


class WalkedScores(Protocol):
    """What a walk gives: `refine.walker.Walked`, which this file, free of JAX, cannot name."""

    @property
    def image_id(self) -> str:
        """Of the picture."""

    @property
    def keys(self) -> np.ndarray:
        """int32[K + 1], -1 for background first."""

    @property
    def scores(self) -> np.ndarray:
        """float32[K + 1, h, w], of cells."""


def is_done(task: Task, out: Path, scores: bool, image_id: str) -> bool:
    """Whether all files of a picture are there."""
    suffixes = (".png", ".npz") if scores else (".png",)
    return all((folder / (image_id + suffix)).exists() for folder in task.folders(out) for suffix in suffixes)


def write_result(task: Task, out: Path, scores: bool, result: Refined) -> None:
    """Writes the label maps as palette PNGs and, if wanted, the scores before them.

    Scores are as those of the stage `crf`: `keys` int32[K + 1] with -1 for background first, and `scores`
    float32[K + 1, H, W].
    """
    keys = np.concatenate([[-1], result.keys]).astype(np.int32)
    for i, (folder, labels) in enumerate(zip(task.folders(out), task.labels(result), strict=True)):
        path = folder / f"{result.image_id}.png"
        if scores:
            arrays = {"keys": keys, "scores": result.scores[i]}
            write_whole(path.with_name(path.stem + ".npz"), lambda file, a=arrays: np.savez(file, **a))  # type: ignore[misc]
        content = palette_png(labels)
        write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]


def write_walked(pairs: Pairs, out: Path, stride: int, level: float, result: WalkedScores) -> None:
    """Writes the mask of walked scores: a class where its share against background is above `level`."""
    planes = upsample(result.scores, stride, pairs.size(result.image_id))
    content = palette_png(label_map(foreground_shares(planes), result.keys[1:], level))
    write_whole(out / f"{result.image_id}.png", lambda file: file.write(content))


def _by_id(folder: Path, suffixes: Sequence[str], flag: str) -> dict[str, Path]:
    """Files with one of the suffixes, by their path below the folder without it."""
    if not folder.is_dir():
        raise ConfigError(f"{flag}={folder}: there is no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        image_id = path.relative_to(folder).with_suffix("").as_posix()
        check_id(image_id, str(folder))
        if image_id in found:
            raise DataError(f"{found[image_id]} and {path} are both of image {image_id!r}; remove one")
        found[image_id] = path
    if not found:
        raise ConfigError(f"{flag}={folder}: holds no {', '.join(suffixes)} files")
    return found
