"""Scores of label maps and CAMs: confusion counts, per-class IoU, all background thresholds in one pass."""

from wsss_jax.evaluation.confusion import (
    AbsentClasses,
    ConfusionMatrix,
    ImageScore,
    class_iou,
    frequency_weighted_iou,
    image_label_score,
    labels_from_scores,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
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
    "frequency_weighted_iou",
    "image_label_score",
    "image_score",
    "labels_from_scores",
    "mean_accuracy",
    "mean_iou",
    "pixel_accuracy",
    "summarise",
    "summarise_labels",
    "threshold_range",
    "trained_on",
]
