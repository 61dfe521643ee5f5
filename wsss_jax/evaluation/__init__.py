"""Scores of label maps and CAMs: confusion counts, per-class IoU, all background thresholds in one pass."""

from wsss_jax.evaluation.confusion import (
    AbsentClasses,
    ConfusionMatrix,
    class_iou,
    labels_from_scores,
    mean_iou,
)
from wsss_jax.evaluation.summary import describe, summarise, summarise_labels
from wsss_jax.evaluation.sweep import ThresholdSweep, threshold_range

__all__ = [
    "AbsentClasses",
    "ConfusionMatrix",
    "ThresholdSweep",
    "class_iou",
    "describe",
    "labels_from_scores",
    "mean_iou",
    "summarise",
    "summarise_labels",
    "threshold_range",
]
