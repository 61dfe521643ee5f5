"""Where InferCam cuts a picture into four overlapping parts, and the parts at every scale.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022, section 3.2. A classifier looks at each part on its own, so that the most telling
part of an object cannot outshine the rest of it.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsss_jax.data.source import Source
from wsss_jax.data.transforms import rescale


class Box(NamedTuple):
    """A part of a picture, in pixels; ends are exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.bottom - self.top, self.right - self.left


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How far parts reach beyond the centres.

    Attributes:
        one_class: margin in pixels in a picture of one class.
        two_classes: margin in a picture of two; a picture of more is not split.
        wrap: whether a start that falls below 0 counts from the end, as a Python slice does. The authors'
            program does so: a centre near an edge makes parts of a few rows or columns at the opposite edge.
            False cuts such a start off at 0.
    """

    one_class: int = 10
    two_classes: int = 20
    wrap: bool = True


def mass_centre(cam: np.ndarray) -> tuple[int, int]:
    """Returns (row, column) of a map's centre of mass, cut to whole pixels; the middle of a map of zeros.

    Args:
        cam: float[H, W], values >= 0.
    """
    rows, columns = cam.sum(1, dtype=np.float64), cam.sum(0, dtype=np.float64)
    total = rows.sum()
    if not total > 0:
        return cam.shape[0] // 2, cam.shape[1] // 2
    centres = (line @ np.arange(len(line)) / total for line in (rows, columns))
    y, x = (int(centre) for centre in centres)
    return y, x


def split_boxes(cams: np.ndarray, rule: SplitRule) -> tuple[Box, Box, Box, Box]:
    """Returns the four parts of a picture: top left, top right, bottom left, bottom right.

    Each reaches from its corner beyond the farthest class's centre. With three or more classes, all four are
    the whole picture, and so they are without any, of which the authors' program knows nothing.

    Args:
        cams: float[K, H, W], the maps of the classes in the picture.
        rule: the margins.
    """
    H, W = cams.shape[1:]
    if not 0 < len(cams) < 3:
        whole = Box(0, H, 0, W)
        return whole, whole, whole, whole
    margin = rule.one_class if len(cams) == 1 else rule.two_classes
    ys, xs = zip(*(mass_centre(cam) for cam in cams), strict=True)
    upper, left = (0, min(max(ys) + margin, H)), (0, min(max(xs) + margin, W))
    lower, right = (_start(min(ys) - margin, H, rule), H), (_start(min(xs) - margin, W, rule), W)
    return Box(*upper, *left), Box(*upper, *right), Box(*lower, *left), Box(*lower, *right)


def _start(start: int, length: int, rule: SplitRule) -> int:
    return slice(start if rule.wrap else max(start, 0), None).indices(length)[0]


@dataclasses.dataclass(frozen=True)
class PartViews:
    """Reads a picture and cuts parts out of it; a function for loader workers.

    Called with (image id, boxes), it returns for each box the part at every scale s, uint8[round(h * s),
    round(w * s), 3], and last as it was cut, uint8[h, w, 3].
    """

    source: Source
    scales: tuple[float, ...]

    def __call__(self, job: tuple[str, Sequence[Box]]) -> list[list[np.ndarray]]:
        """Returns the views."""
        image_id, boxes = job
        image = self.source.image(image_id)
        return [self._views(cut(image, box)) for box in boxes]

    def _views(self, part: np.ndarray) -> list[np.ndarray]:
        return [*(rescale(part, scale) for scale in self.scales), part]


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Returns the part of a picture [H, W, ...] that lies in a box."""
    return image[box.top : box.bottom, box.left : box.right]
