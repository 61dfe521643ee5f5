"""Confusion matrices of CAMs at every background threshold, in one pass over the images.

A pixel's prediction at background score t is the argmax over the planes [t, class 0, ..., class C - 1], in
float32, the first of equal planes winning and absent classes being planes of 0 (the evaluation of OC-CSE and
of CPN). For t >= 0 that is the pixel's best class (the lowest of equal ones) where its score is above t, else
background. So the number of thresholds strictly below the best score tells the prediction at all of them, and
one histogram over (truth, best class, that number) holds every confusion matrix: the cost does not grow with
the number of thresholds.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from wsss_jax.data.class_maps import ClassMaps, check_maps
from wsss_jax.errors import ConfigError
from wsss_jax.evaluation.confusion import (
    ImageScore,
    check_mask,
    check_num_classes,
    check_truth_counts,
)


def threshold_range(start: float, stop: float, step: float) -> tuple[float, ...]:
    """start, start + step, ... up to and including stop, each rounded to 6 decimals.

    OC-CSE sweeps `threshold_range(0.10, 0.39, 0.01)`, CPN `threshold_range(0.20, 0.59, 0.01)`.

    Raises:
      ValueError: step is not positive or stop lies below start.
    """
    if not step > 0 or stop < start:
        raise ValueError(f"no thresholds from {start} to {stop} in steps of {step}")
    count = int(np.floor((stop - start) / step + 1e-6)) + 1
    return tuple(round(start + i * step, 6) for i in range(count))


@dataclasses.dataclass(kw_only=True, eq=False)
class ThresholdSweep:
    """Mergeable counts from which the confusion matrix at every background threshold follows.

    Attributes:
      num_classes: C, the number of foreground classes, at most 254.
      thresholds: T background scores, finite, at least 0 and strictly increasing as float32.
      counts: int64[C + 1, C + 1, T + 1]: pixels by true label, label of the best class (0 in images without
        any class) and number of thresholds strictly below the best score.
      images: number of images added.
    """

    num_classes: int
    thresholds: Sequence[float] | np.ndarray
    counts: np.ndarray = dataclasses.field(init=False, repr=False)
    images: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        self._levels = np.array(self.thresholds, np.float32).reshape(-1)
        self.thresholds = tuple(float(str(level)) for level in self._levels)  # 0.15, not 0.15000000596
        if not self.thresholds or not np.isfinite(self._levels).all() or self._levels[0] < 0:
            raise ValueError(f"thresholds must be finite, at least 0 and at least one: {self.thresholds}")
        if np.any(np.diff(self._levels) <= 0):
            raise ValueError(f"thresholds must increase strictly as float32: {self.thresholds}")
        labels = self.num_classes + 1
        self.counts = np.zeros((labels, labels, len(self.thresholds) + 1), np.int64)

    def add(self, maps: ClassMaps, mask: np.ndarray, *, image_id: str = "?") -> None:
        """Counts one image.

        Args:
          maps: a plane for each class of the image, in any order; with none all is background.
          mask: uint8[H, W]: 0 background, c + 1 class c, 255 void.
          image_id: named in errors.

        Raises:
          DataError: sizes, types, classes or values are not as above; nothing is counted then.
        """
        what = f"CAM file of image {image_id!r}"
        class_ids, planes = check_maps(maps, what, num_classes=self.num_classes)
        check_mask(mask, planes.shape[1:], image_id)
        best, plane = _best_plane(planes)
        below = np.searchsorted(self._levels, best, side="left")
        count, bins = max(len(planes), 1), len(self._levels) + 1
        cells = (mask.astype(np.intp) * count + plane) * bins + below
        # All 256 mask values get a row: void needs no gather, and a wrong value shows after the count.
        table = np.bincount(cells.ravel(), minlength=256 * count * bins).reshape(256, count, bins)
        check_truth_counts(table.sum(axis=(1, 2)), self.num_classes, image_id)
        labels = class_ids + 1 if len(class_ids) else [0]
        self.counts[:, labels] += table[: self.num_classes + 1]
        self.images += 1

    def merge(self, other: Self) -> Self:
        """The counts of both; raises ValueError where classes or thresholds differ."""
        if (self.num_classes, self.thresholds) != (other.num_classes, other.thresholds):
            raise ValueError("cannot merge sweeps of different classes or thresholds")
        merged = dataclasses.replace(self)
        merged.counts = self.counts + other.counts
        merged.images = self.images + other.images
        return merged

    __add__ = merge

    def confusion(self) -> np.ndarray:
        """Confusion matrices int64[T, C + 1, C + 1]: threshold, truth, prediction."""
        # A class is predicted at threshold i where more than i thresholds lie below its score.
        above = self.counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
        confusion = np.ascontiguousarray(np.moveaxis(above, -1, 0))
        pixels = self.counts.sum(axis=(1, 2))
        confusion[:, :, 0] = pixels - confusion[:, :, 1:].sum(axis=-1)
        return confusion

    def index(self, threshold: float) -> int:
        """Position of a threshold in the sweep, compared as float32.

        Raises:
          ConfigError: the sweep has no such threshold.
        """
        found = np.flatnonzero(self._levels == np.float32(threshold))
        if not found.size:
            raise ConfigError(
                f"threshold {threshold:g} is not among the {len(self.thresholds)} of the sweep "
                f"({self.thresholds[0]:g} to {self.thresholds[-1]:g}); add it there or choose one of them"
            )
        return int(found[0])


def image_score(
    maps: ClassMaps, mask: np.ndarray, *, num_classes: int, threshold: float, image_id: str = "?"
) -> ImageScore | None:
    """The score of one image's CAM at one threshold; None where all of the truth is void.

    Args and errors are those of `ThresholdSweep.add`.
    """
    sweep = ThresholdSweep(num_classes=num_classes, thresholds=(threshold,))
    sweep.add(maps, mask, image_id=image_id)
    return ImageScore.of(sweep.confusion()[0])


def _best_plane(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best score of each pixel, float32[H, W], and of which plane it is; the first wins ties."""
    place = np.zeros(planes.shape[1:], np.intp)
    if not len(planes):
        return np.zeros(place.shape, np.float32), place
    best = planes[0].copy()
    for i, plane in enumerate(planes[1:], 1):  # np.argmax over the first axis takes several times as long
        np.copyto(place, i, where=plane > best)
        np.maximum(best, plane, out=best)
    return best, place
