"""Confusion counts of label maps, and the IoU that follows from them.

A confusion matrix is int64[C + 1, C + 1] for C foreground classes: row = true label, column = predicted
label, label 0 = background, label c + 1 = class c. Pixels whose true label is void (255) are counted nowhere.
"""

import dataclasses
from typing import Literal, Self, get_args

import numpy as np

from wsss_jax.data.class_maps import ClassMaps, check_maps
from wsss_jax.errors import DataError

VOID = 255
_EPSILON = 1e-10  # the references' guard against 0 / 0; it turns the IoU of an absent class into 0

AbsentClasses = Literal["zero", "ignore", "truth"]


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of every class: TP / (T + P - TP + 1e-10).

    Args:
      confusion: int[..., N, N], rows = truth, columns = prediction.

    Returns:
      float64[..., N] in 0..1; 0 for a class that occurs neither in truth nor in prediction.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return hits / (class_union(confusion) + _EPSILON)


def class_union(confusion: np.ndarray) -> np.ndarray:
    """Pixels that are of a class in truth, in prediction or in both: int[..., N, N] -> int[..., N]."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits


def error_shares(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - truth / union and 1 - prediction / union of every class: how much of the union is not in the truth
    (false positives), and how much not in the prediction (false negatives), as IRN and WaveCAM print them.

    Args:
      confusion: int[N, N], rows = truth, columns = prediction.

    Returns:
      Twice float64[N] in 0..1; NaN for a class that is in neither.
    """
    union = np.where(class_union(confusion) > 0, class_union(confusion), np.nan)
    return 1 - confusion.sum(axis=1) / union, 1 - confusion.sum(axis=0) / union


def counted_classes(confusion: np.ndarray, absent_classes: AbsentClasses) -> np.ndarray:
    """Which classes the mean is taken over: int[..., N, N] -> bool[..., N]; for the rules see `mean_iou`."""
    if absent_classes not in get_args(AbsentClasses):
        rules = ", ".join(map(repr, get_args(AbsentClasses)))
        raise ValueError(f"absent_classes is {absent_classes!r}; it must be one of {rules}")
    pixels = confusion.sum(axis=-1) if absent_classes == "truth" else class_union(confusion)
    return (pixels > 0) | (absent_classes == "zero")


def mean_iou(confusion: np.ndarray, absent_classes: AbsentClasses = "zero") -> np.ndarray:
    """Mean IoU over the classes (background included), one value per leading index.

    Args:
      confusion: int[..., N, N], rows = truth, columns = prediction.
      absent_classes: what a class counts that does not occur. Programs differ, and so do means over lists in
        which not every class occurs.
        `zero`: 0, so that the mean is always over N classes, as in OC-CSE, CPN and SEAM.
        `ignore`: nothing if it is in neither truth nor prediction; one that is predicted but not in the truth
        counts 0. So do IRN, ReCAM and WaveCAM.
        `truth`: nothing if it is not in the truth, predicted or not, as in SC-CAM, DeepLab v2 and AFA.

    Returns:
      float64[...] in 0..1.

    Raises:
      DataError: the matrix holds no pixel, so that no class is left to average over.
      ValueError: there is no such rule.
    """
    present = counted_classes(confusion, absent_classes)
    count = present.sum(axis=-1)
    if not np.all(count):
        raise DataError("no pixel to score: no image was added, or every mask is void (255) throughout")
    return (class_iou(confusion) * present).sum(axis=-1) / count


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the pixels that are labelled rightly, 0..1: of int[N, N], rows = truth."""
    return float(np.trace(confusion) / confusion.sum())


def mean_accuracy(confusion: np.ndarray) -> float:
    """Share of each class's pixels that are labelled rightly, averaged over the classes in the truth."""
    pixels = confusion.sum(axis=1)
    return float((np.diagonal(confusion)[pixels > 0] / pixels[pixels > 0]).mean())


def frequency_weighted_iou(confusion: np.ndarray) -> float:
    """The IoU of each class, weighted by its share of the truth's pixels."""
    return float((confusion.sum(axis=1) / confusion.sum() * class_iou(confusion)).sum())


def labels_from_scores(maps: ClassMaps, num_classes: int, *, image_id: str = "?") -> np.ndarray:
    """Label map of scores with a background plane, as the dense CRF writes it.

    The label is the argmax over all C + 1 planes, where the planes of absent classes are 0 (so that one of
    them wins wherever every given score is negative), and the first of equal planes wins.

    Args:
      maps: float[K, H, W] of int[K], in any order.
      num_classes: C, at most 254.
      image_id: named in errors.

    Returns:
      uint8[H, W]: 0 background, c + 1 class c.

    Raises:
      DataError: a class is out of range or occurs twice, or a score is not a finite number.
    """
    check_num_classes(num_classes)
    what = f"score file of image {image_id!r}"
    class_ids, stack = check_maps(maps, what, background=True, num_classes=num_classes)
    labels = class_ids + 1
    absent = np.setdiff1d(np.arange(num_classes + 1), labels)
    if absent.size:  # of all absent planes only the first can win an argmax
        place = np.searchsorted(labels, absent[0])
        stack = np.insert(stack, place, 0, axis=0)
        labels = np.insert(labels, place, absent[0])
    return labels.astype(np.uint8)[np.argmax(stack, axis=0)]


@dataclasses.dataclass(kw_only=True, eq=False)
class ConfusionMatrix:
    """Mergeable confusion counts of label maps.

    Attributes:
      num_classes: C, the number of foreground classes, at most 254.
      void_prediction: what a predicted 255 counts where the truth is not void: `error` raises DataError,
        `background` counts it as predicted background.
      counts: int64[C + 1, C + 1], rows = truth, columns = prediction.
      images: number of label maps added.
    """

    num_classes: int
    void_prediction: Literal["error", "background"] = "error"
    counts: np.ndarray = dataclasses.field(init=False, repr=False)
    images: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if self.void_prediction not in ("error", "background"):
            raise ValueError(
                f"void_prediction is {self.void_prediction!r}; it must be 'error' or 'background'"
            )
        self.counts = np.zeros((self.num_classes + 1,) * 2, np.int64)

    def add(self, prediction: np.ndarray, mask: np.ndarray, *, image_id: str = "?") -> None:
        """Counts one image.

        Args:
          prediction: uint8[H, W], 0 background, c + 1 class c.
          mask: uint8[H, W], the truth in the same labels, 255 = void.
          image_id: named in errors.

        Raises:
          DataError: sizes or types differ from the above, or a label is larger than C; then nothing is
            counted.
        """
        check_mask(mask, prediction.shape, image_id)
        if prediction.dtype != np.uint8:
            raise DataError(f"prediction of image {image_id!r} is {prediction.dtype}; label maps are uint8")
        # Counting all 256 x 256 pairs checks the labels' range on the way and needs no mask of valid pixels.
        pairs = mask.astype(np.uint16) << 8 | prediction
        table = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        self.counts += self._known_labels(table, image_id)
        self.images += 1

    def _known_labels(self, table: np.ndarray, image_id: str) -> np.ndarray:
        """The C + 1 x C + 1 corner of an image's table of pairs int64[256, 256], after the range checks."""
        size = self.num_classes + 1
        check_truth_counts(table.sum(axis=1), self.num_classes, image_id)
        counts = table[:size].copy()
        if self.void_prediction == "background":
            counts[:, 0] += counts[:, VOID]
            counts[:, VOID] = 0
        unknown = counts[:, size:].any(axis=0)
        if unknown.any():
            raise DataError(
                f"prediction of image {image_id!r} has the label {size + int(np.argmax(unknown))}; with "
                f"{self.num_classes} classes labels are 0..{self.num_classes}"
            )
        return counts[:, :size]

    def merge(self, other: Self) -> Self:
        """The counts of both; raises ValueError where the two count different things."""
        if (self.num_classes, self.void_prediction) != (other.num_classes, other.void_prediction):
            raise ValueError(
                "cannot merge the counts of two different kinds of confusion matrix: "
                f"{self.num_classes} classes, void_prediction={self.void_prediction!r} and "
                f"{other.num_classes} classes, void_prediction={other.void_prediction!r}"
            )
        merged = dataclasses.replace(self)
        merged.counts = self.counts + other.counts
        merged.images = self.images + other.images
        return merged

    __add__ = merge


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """How well one image is labelled, over the classes in its truth or prediction.

    Attributes:
      miou: mean IoU in 0..1, background included.
      foreground: the same without background, which is large in most images; None where there is nothing
        else.
    """

    miou: float
    foreground: float | None

    @classmethod
    def of(cls, confusion: np.ndarray) -> Self | None:
        """From an image's confusion matrix int[N, N]; None where all of its truth is void."""
        present = class_union(confusion) > 0
        if not present.any():
            return None
        iou, classes = class_iou(confusion), present[1:]
        foreground = float(iou[1:][classes].mean()) if classes.any() else None
        return cls(miou=float(iou[present].mean()), foreground=foreground)


def image_label_score(
    labels: np.ndarray, mask: np.ndarray, *, num_classes: int, image_id: str = "?"
) -> ImageScore | None:
    """The score of one image's label map; None where all of the truth is void.

    Args and errors are those of `ConfusionMatrix.add`, but a predicted 255 counts as background.
    """
    confusion = ConfusionMatrix(num_classes=num_classes, void_prediction="background")
    confusion.add(labels, mask, image_id=image_id)
    return ImageScore.of(confusion.counts)


def check_num_classes(num_classes: int) -> None:
    """Raises ValueError unless the labels 1..C fit into uint8 beside background (0) and void (255)."""
    if not 1 <= num_classes <= 254:
        raise ValueError(f"num_classes is {num_classes}; uint8 masks hold 1 to 254 foreground classes")


def check_mask(mask: np.ndarray, size: tuple[int, ...], image_id: str) -> None:
    """Raises DataError unless `mask` is uint8 and of the given size (H, W)."""
    if mask.shape != tuple(size):
        raise DataError(
            f"mask of image {image_id!r} has shape {mask.shape}, its prediction {tuple(size)}; "
            "both must have the image's height and width"
        )
    if mask.dtype != np.uint8:
        raise DataError(f"mask of image {image_id!r} is {mask.dtype}; masks are uint8 with 255 for void")


def check_truth_counts(pixels: np.ndarray, num_classes: int, image_id: str) -> None:
    """Raises DataError if int[256] pixels per mask value has any in C + 1..254."""
    unknown = pixels[num_classes + 1 : VOID]
    if unknown.any():
        value = num_classes + 1 + int(np.argmax(unknown > 0))
        raise DataError(
            f"mask of image {image_id!r} has the value {value}; with {num_classes} classes values are "
            f"0..{num_classes} and {VOID} (void): check dataset.name and its list of classes"
        )
