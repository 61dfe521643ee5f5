"""Scores that say what they are: the dictionary behind metrics/<stage>_<split>.json and its one-line text.

Every IoU in these dictionaries is a percentage, 0..100 (`"unit": "percent"`); everything else in this package
counts in fractions. A threshold is always stored with how it was chosen:

    fixed    given beforehand, in the configuration;
    oracle   the best on this very split, looked up with its ground truth: an upper bound;
    chosen   the best on another split, which is named.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsss_jax.errors import ConfigError, DataError
from wsss_jax.evaluation.confusion import (
    AbsentClasses,
    ConfusionMatrix,
    class_iou,
    counted_classes,
    error_shares,
    mean_iou,
)
from wsss_jax.evaluation.sweep import ThresholdSweep

PROVENANCE_KEYS = (
    "stage",
    "method",
    "dataset",
    "split",
    "list_sha256",
    "classes",
    "scales",
    "flip",
    "crf",
    "class_filter",
    "weights_sha256",
)

Metrics = dict[str, Any]

_ABSENT_CLASSES = {
    "zero": "absent classes count 0",
    "ignore": "absent classes left out",
    "truth": "classes absent from the truth left out",
}


def summarise(
    sweep: ThresholdSweep,
    fixed_threshold: float,
    *,
    provenance: Mapping[str, Any],
    absent_classes: AbsentClasses = "zero",
    threshold_from: Mapping[str, Any] | None = None,
) -> Metrics:
    """Metrics of CAMs at a fixed threshold, at the best one and, on demand, at one chosen on another split.

    Args:
      sweep: the counts of the whole split.
      fixed_threshold: the configured background score; one of the sweep's.
      provenance: what was scored, with the keys of PROVENANCE_KEYS (None where one does not apply); further
        keys are kept. `classes` are the C foreground class names.
      absent_classes: see `mean_iou`; the IoU of a class that the mean leaves out is stored as None.
      threshold_from: metrics of another split, whose oracle threshold is applied here.

    Returns:
      A JSON-serialisable dictionary of finite numbers: the provenance, `images`, `unit`, `absent_classes`,
      `thresholds`, `miou_curve`, and `fixed`, `oracle` and `chosen` (None without threshold_from), each with
      `threshold`, `miou`, `iou` of the C + 1 classes, background first, `wrong_foreground`, the share of the
      predicted foreground whose truth is background, None if there is no foreground, and `false_positives`
      and `false_negatives`, shares of the union, of the background and on average of the classes.

    Raises:
      ConfigError: a threshold is not in the sweep, or threshold_from is of the same split or has no oracle.
      DataError: nothing was counted.
      ValueError: the provenance lacks a key or names another number of classes.
    """
    confusion = sweep.confusion()
    metrics = _header(provenance, sweep.num_classes, sweep.images, absent_classes, int(confusion[0].sum()))
    curve = mean_iou(confusion, absent_classes)

    def point(index: int) -> Metrics:
        return {"threshold": sweep.thresholds[index], **_scores(confusion[index], absent_classes)}

    metrics |= {
        "thresholds": list(sweep.thresholds),
        "miou_curve": (100 * curve).tolist(),
        "fixed": point(sweep.index(fixed_threshold)),
        "oracle": point(int(np.argmax(curve))),
        "chosen": None,
    }
    if threshold_from is not None:
        split, threshold = _other_split(threshold_from, metrics["split"])
        metrics["chosen"] = {**point(sweep.index(threshold)), "split": split}
    return metrics


def summarise_labels(
    confusion: ConfusionMatrix, *, provenance: Mapping[str, Any], absent_classes: AbsentClasses = "zero"
) -> Metrics:
    """Metrics of label maps, which have no threshold: as `summarise`, with an empty curve.

    `fixed` holds the score, with `threshold` None; `oracle` and `chosen` are None. Raises DataError and
    ValueError as `summarise` does.
    """
    pixels = int(confusion.counts.sum())
    metrics = _header(provenance, confusion.num_classes, confusion.images, absent_classes, pixels)
    fixed = {"threshold": None, **_scores(confusion.counts, absent_classes)}
    return metrics | {"thresholds": [], "miou_curve": [], "fixed": fixed, "oracle": None, "chosen": None}


def describe(metrics: Mapping[str, Any]) -> str:
    """One line of text for a metrics dictionary: every score with its threshold, and what was scored how.

    For example: `eval_cam train: mIoU 47.10 at background score 0.15 (fixed), 48.00 at 0.19 (oracle); 32.5 %
    of the foreground is background; 300 images, list 1f0c2a9b, scales 0.5 1 1.5 2, flip, no CRF, classes
    given, weights 77ab01c4, absent classes count 0`. The share is that of the first score.
    """
    wrong = metrics["fixed"].get("wrong_foreground")  # not in metrics of older versions
    parts = (
        f"{metrics['stage']} {metrics['split']}: mIoU {_points_text(metrics)}",
        *([] if wrong is None else [f"{wrong:.1f} % of the foreground is background"]),
        describe_conditions(metrics),
    )
    return "; ".join(parts)


def describe_conditions(metrics: Mapping[str, Any]) -> str:
    """The part of `describe` after the scores: images, list, scales, flip, CRF, class filter, weights."""
    parts = ["1 image" if metrics["images"] == 1 else f"{metrics['images']} images"]
    if metrics["list_sha256"]:
        parts.append(f"list {metrics['list_sha256'][:8]}")
    if metrics["scales"]:
        parts.append("scales " + " ".join(f"{scale:g}" for scale in metrics["scales"]))
    if metrics["flip"] is not None:
        parts.append("flip" if metrics["flip"] else "no flip")
    parts.append(_crf_text(metrics["crf"]))
    if metrics["class_filter"]:
        parts.append(f"classes {metrics['class_filter']}")
    if metrics["weights_sha256"]:
        parts.append(f"weights {metrics['weights_sha256'][:8]}")
    if metrics.get("start"):
        parts.append(f"started from {metrics['start']}")
    parts.append(_ABSENT_CLASSES[metrics["absent_classes"]])
    parts += (f"{name} trained on {images}" for name, images in trained_on(metrics).items())
    return ", ".join(parts)


def trained_on(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What each network that has refined maps was trained on, and whether the score is of those images."""
    told = {}
    for name, images in metrics.get("trained_on", {}).items():
        same = images["list_sha256"] == metrics["list_sha256"]
        told[name] = f"{images['split']}, the images scored" if same else images["split"]
    return told


def _header(
    provenance: Mapping[str, Any], num_classes: int, images: int, absent_classes: str, pixels: int
) -> Metrics:
    missing = [key for key in PROVENANCE_KEYS if key not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}: a score must say what it is")
    if len(provenance["classes"]) != num_classes:
        raise ValueError(
            f"provenance names {len(provenance['classes'])} classes, the counts have {num_classes}"
        )
    if pixels == 0:
        raise DataError(
            f"{provenance['stage']} {provenance['split']}: no pixel to score in {images} images; "
            "every mask is void (255) throughout or the split is empty"
        )
    return {
        **{key: _plain(value) for key, value in provenance.items()},
        "images": images,
        "unit": "percent",
        "absent_classes": absent_classes,
    }


def _scores(confusion: np.ndarray, absent_classes: AbsentClasses) -> Metrics:
    """`miou`, `iou` and shares of errors, in percent, of one confusion matrix int64[C + 1, C + 1]."""
    counted = counted_classes(confusion, absent_classes)
    iou = [
        value if counts else None
        for value, counts in zip((100 * class_iou(confusion)).tolist(), counted, strict=True)
    ]
    foreground = int(confusion[:, 1:].sum())
    wrong = float(100 * confusion[0, 1:].sum() / foreground) if foreground else None
    errors = zip(("false_positives", "false_negatives"), error_shares(confusion), strict=True)
    shares = {name: _background_and_classes(100 * share) for name, share in errors}
    miou = float(100 * mean_iou(confusion, absent_classes))
    return {"miou": miou, "iou": iou, "wrong_foreground": wrong, **shares}


def _background_and_classes(share: np.ndarray) -> dict[str, float | None]:
    """The background's, and the mean of the classes'; absent ones are left out, where IRN's program prints
    NaN."""
    present = share[1:][np.isfinite(share[1:])]
    return {
        "background": float(share[0]) if np.isfinite(share[0]) else None,
        "classes": float(present.mean()) if present.size else None,
    }


def _other_split(metrics: Mapping[str, Any], split: str) -> tuple[str, float]:
    """Name and best threshold of the split that a threshold is taken from."""
    if metrics["split"] == split:
        raise ConfigError(
            f"threshold_from is of the split {split!r} itself, whose best threshold is the oracle"
        )
    if metrics["oracle"] is None:
        raise ConfigError(f"threshold_from ({metrics['stage']} {metrics['split']}) has no threshold to take")
    return metrics["split"], metrics["oracle"]["threshold"]


def _points_text(metrics: Mapping[str, Any]) -> str:
    fixed, oracle, chosen = metrics["fixed"], metrics["oracle"], metrics["chosen"]
    if fixed["threshold"] is None:
        return f"{fixed['miou']:.2f}"
    # Of masks it may be a class's score relative to background; see `refinement.pseudo`.
    level = metrics.get("level", "background score")
    text = f"{fixed['miou']:.2f} at {level} {fixed['threshold']:g} (fixed)"
    if chosen is not None:
        text += f", {chosen['miou']:.2f} at {chosen['threshold']:g} (chosen on {chosen['split']})"
    return text + f", {oracle['miou']:.2f} at {oracle['threshold']:g} (oracle)"


def _crf_text(crf: object) -> str:
    if not crf:
        return "no CRF"
    return "CRF" if crf is True else f"CRF {crf}"


def _plain(value: Any) -> Any:
    """A value as JSON writes it: NumPy numbers and arrays become Python's, tuples lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
