"""Scores at 30 background thresholds: one pass over the pixels against a pass per threshold.

Arrays are in memory on both sides; the published loop also reads every file again for each threshold.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.images import open_images
from benchmarks.row import Row, Settings
from benchmarks.timing import interleaved
from wsss_jax.config import defaults
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.voc import CLASSES
from wsss_jax.errors import RunError
from wsss_jax.evaluation import ThresholdSweep

_MAX_PICTURES = 4  # the loop takes about a second for each


class _Case(NamedTuple):
    """An image's activation maps and truth."""

    maps: ClassMaps
    mask: np.ndarray  # uint8[H, W]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures images per second of both forms, at the images' own size.

    Raises:
      RunError: the two do not count the same integers.
    """
    settings = settings or Settings()
    cases, thresholds = _cases(settings), defaults().eval.thresholds
    if not np.array_equal(one_pass(cases, thresholds), loop(cases, thresholds)):
        raise RunError("the one-pass sweep and the loop over thresholds count different pixels: a bug")
    works = {"pass": lambda: one_pass(cases, thresholds), "loop": lambda: loop(cases, thresholds)}
    times = interleaved(works, settings.repeats)
    ratio = times["loop"].median / times["pass"].median
    what = f"{len(thresholds)} thresholds"
    sizes = f"{len(cases)} images of about {round(np.mean([c.mask.size for c in cases]) / 1000)}k pixels"
    note = f"{sizes}; all confusion matrices are equal"
    compared = {"ratio": ratio, "versus": "loop", "note": note}
    return [
        times["pass"].per_second(len(cases), f"evaluation at {what}, one pass", "images/s", **compared),
        times["loop"].per_second(len(cases), f"evaluation at {what}, loop", "images/s", note=sizes),
    ]


def one_pass(cases: list[_Case], thresholds: tuple[float, ...]) -> np.ndarray:
    """Confusion matrices int64[T, C + 1, C + 1] by `ThresholdSweep`."""
    sweep = ThresholdSweep(num_classes=len(CLASSES), thresholds=thresholds)
    for case in cases:
        sweep.add(case.maps, case.mask)
    return sweep.confusion()


def loop(cases: list[_Case], thresholds: tuple[float, ...]) -> np.ndarray:
    """The same by the published way: for each threshold, the argmax over its plane and all classes'."""
    labels = len(CLASSES) + 1
    confusion = np.zeros((len(thresholds), labels, labels), np.int64)
    for matrix, threshold in zip(confusion, thresholds, strict=True):
        for (keys, cam), mask in cases:
            planes = np.zeros((labels, *mask.shape), np.float32)
            planes[0] = threshold
            planes[keys + 1] = cam
            valid = mask < 255
            pairs = mask[valid] * np.int64(labels) + planes.argmax(axis=0)[valid]
            matrix += np.bincount(pairs, minlength=labels**2).reshape(labels, labels)
    return confusion


def _cases(settings: Settings) -> list[_Case]:
    """Maps with values in 0..1, many of them equal to a threshold, for the classes of each image."""
    rng, cases = np.random.default_rng(0), []
    with open_images(settings) as (source, ids):
        for image_id in ids[:_MAX_PICTURES]:
            mask = source.mask(image_id)
            if mask is None:
                continue
            keys = np.flatnonzero(source.labels(image_id)).astype(np.int32)
            cam = (rng.integers(0, 101, (len(keys), *mask.shape)) / 100).astype(np.float32)
            cases.append(_Case(ClassMaps(keys, cam), mask))
    if not cases:
        raise RunError("none of the images has a mask to be evaluated against; give a devkit with masks")
    return cases
