"""What a network sees in one image, and the files that it becomes."""

import difflib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from wsss_jax.data.class_maps import ClassMaps, write_maps
from wsss_jax.data.images import palette_png
from wsss_jax.errors import ConfigError
from wsss_jax.files import file_name, write_bytes
from wsss_jax.report.overlay import cam_overlay, label_overlay

THRESHOLD = 0.15
_PREDICTED_FROM = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class CamResult:
    """What a network sees in one image.

    Attributes:
      image: uint8[H, W, 3], the image as it was looked at: upright and RGB.
      maps: 0..1, one for each of the chosen classes.
      classes: their K names.
      scores: probability, 0..1, of every class that the network knows, by name.
    """

    image: np.ndarray
    maps: ClassMaps
    classes: tuple[str, ...]
    scores: Mapping[str, float]

    @property
    def predicted(self) -> tuple[str, ...]:
        """The classes that the network is surer of than not, p > 0.5, the likeliest first; often none."""
        order = sorted(self.scores, key=lambda name: -self.scores[name])
        return tuple(name for name in order if self.scores[name] > _PREDICTED_FROM)

    def labels(self, threshold: float = THRESHOLD) -> np.ndarray:
        """uint8[H, W]: the best class's index + 1 where its map exceeds the threshold, else 0."""
        return self.maps.labels(threshold)

    def overlay(self, name: str) -> Image.Image:
        """The map of one class over the image; ConfigError if it is not one of `classes`."""
        (index,) = class_indices([name], self.classes)
        return Image.fromarray(cam_overlay(self.image, self.maps.planes[index]))

    def label_overlay(self, threshold: float = THRESHOLD) -> Image.Image:
        """The labels over the image, in VOC's colours."""
        return Image.fromarray(label_overlay(self.image, self.labels(threshold)))


def write_result(result: CamResult, folder: str | Path, threshold: float = THRESHOLD) -> list[str]:
    """Writes an image's maps and labels and returns the names of the files; RunError if that cannot be."""
    folder = Path(folder)
    files = {f"cam_{file_name(name)}.png": as_png(result.overlay(name)) for name in result.classes}
    files["labels.png"] = palette_png(result.labels(threshold))
    files["overlay.png"] = as_png(result.label_overlay(threshold))
    for name, content in files.items():
        write_bytes(folder / name, content)
    return list(files)


def write_scores(result: CamResult, path: Path) -> Path:
    """Writes keys int32[K] and cam float32[K, H, W], as a run's CAM files, and returns the path.

    Raises:
      RunError: the file cannot be written.
    """
    write_maps(path, result.maps)
    return path


def class_indices(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Indices of classes by name; ConfigError, with the nearest name, if one is not known."""
    if isinstance(names, str) or not names:
        raise ConfigError(f"classes are {names!r}; give a list of names, of {', '.join(known)}")
    for name in names:
        if name not in known:
            lower = {other.lower(): other for other in known}
            near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
            hint = f"did you mean {lower[near[0]]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"class {name!r}: there is no such class here; {hint}")
    return [list(known).index(name) for name in names]


def as_png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
