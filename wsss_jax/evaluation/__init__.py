"""Scores of label maps and CAMs: confusion counts, per-class IoU, all background thresholds in one pass."""

from wsss_jax.evaluation.confusion import (
    AbsentClasses,
    ConfusionMatrix,
    ImageScore,
    class_iou,
    image_label_score,
    labels_from_scores,
    mean_iou,
)
from wsss_jax.evaluation.summary import (
    describe,
    describe_conditions,
    summarise,
    summarise_labels,
    trained_on,
)
from wsss_jax.evaluation.sweep import ThresholdSweep, image_score, threshold_range

__all__ = [
    "AbsentClasses",
    "ConfusionMatrix",
    "ImageScore",
    "ThresholdSweep",
    "class_iou",
    "describe",
    "describe_conditions",
    "image_label_score",
    "image_score",
    "labels_from_scores",
    "mean_iou",
    "summarise",
    "summarise_labels",
    "threshold_range",
    "trained_on",
]
