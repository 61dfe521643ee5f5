"""What a report shows: frozen descriptions that the stage fills in and `write_report` draws."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsss_jax.data.class_maps import ClassMaps, check_maps
from wsss_jax.evaluation import ImageScore

MAX_RESULTS = 4  # as many as there are colours that stay apart on both schemes
MAX_GALLERY = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One scored system or stage.

    Attributes:
      name: distinguishes it in this report, for example `classifier` and `OC-CSE`.
      metrics: a dictionary as `wsss_jax.evaluation.summarise` or `summarise_labels` makes it.
      threshold: what its thresholds are. Background scores share a plot and a slider; others have none.
    """

    name: str
    metrics: Mapping[str, Any]
    threshold: str = "background score"

    @property
    def has_curve(self) -> bool:
        """Whether it was scored at many background scores."""
        return self.threshold == "background score" and bool(self.metrics["thresholds"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One training curve: y (any unit) over x (steps or epochs); values that are not finite leave gaps."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"series {self.name!r} has {len(self.x)} x and {len(self.y)} y values")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GalleryCam:
    """A CAM of one image.

    Attributes:
      maps: at the image's size, 0..1.
      score: of this image alone (`wsss_jax.evaluation.image_score`), by which the gallery is sorted; None
        where there is no ground truth.
    """

    maps: ClassMaps
    score: ImageScore | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GalleryItem:
    """One image of the gallery.

    Attributes:
      image_id: its id.
      image: uint8[H, W, 3] RGB.
      mask: uint8[H, W] ground truth (0 background, c + 1 class c, 255 void), or None.
      cams: CAM by name of the result that it belongs to; not every result needs one.
      labels: label map uint8[H, W], in the mask's labels, by name of the result that it belongs to.
    """

    image_id: str
    image: np.ndarray
    mask: np.ndarray | None
    cams: Mapping[str, GalleryCam]
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        check_image(self.image, f"image {self.image_id!r}")
        if self.mask is not None:
            check_labels(self.mask, size, f"mask of {self.image_id!r}")
        for name, labels in self.labels.items():
            check_labels(labels, size, f"label map {name!r} of {self.image_id!r}")
        for name, cam in self.cams.items():
            check_maps(cam.maps, f"CAM {name!r} of {self.image_id!r}", size=size)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """An image of its own, outside the gallery, such as a sheet of examples.

    Attributes:
      title: heading.
      caption: says what is seen; with the title it is also read out instead of the image.
      image: uint8[H, W, 3] RGB; embedded with a long side of at most 1600 pixels.
    """

    title: str
    caption: str
    image: np.ndarray

    def __post_init__(self) -> None:
        check_image(self.image, f"figure {self.title!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows.

    Attributes:
      title: heading of the page.
      summary: label -> text about the run: method, dataset, split, command, commit, date, duration, versions.
      warnings: what to know before the scores are believed, a sentence each.
      classes: the C foreground class names.
      results: 1 to 4 results with different names, drawn in this order as headlines, bars and curves.
      sorted_by: name of the result by whose scores the gallery is sorted at first; that of the first of which
        there are maps if empty.
      gallery: up to 24 images; `select_gallery` picks the best and the worst of a split.
      gallery_note: says how the images were picked.
      stages: every scored stage, one row each of a table; any number.
      training: training curves, each in a plot of its own; empty for none.
      terms: the terms that a loss is the sum of and what else belongs to a training, in a small plot each.
      figures: further images, shown in this order below everything else.
    """

    title: str
    summary: Mapping[str, str]
    classes: Sequence[str]
    results: Sequence[Result]
    warnings: Sequence[str] = ()
    sorted_by: str = ""
    gallery: Sequence[GalleryItem] = ()
    gallery_note: str = ""
    stages: Sequence[Result] = ()
    training: Sequence[Series] = ()
    terms: Sequence[Series] = ()
    figures: Sequence[Figure] = ()

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if not 1 <= len(names) <= MAX_RESULTS or len(set(names)) < len(names):
            raise ValueError(f"a report shows 1 to {MAX_RESULTS} results of different names, not {names}")
        if len(self.gallery) > MAX_GALLERY:
            raise ValueError(
                f"{len(self.gallery)} images in the gallery, at most {MAX_GALLERY}: use select_gallery"
            )
        if self.sorted_by and self.sorted_by not in names:
            raise ValueError(f"the gallery is sorted by {self.sorted_by!r}; the results are {names}")
        for result in self.results:
            if list(result.metrics["classes"]) != list(self.classes):
                raise ValueError(f"result {result.name!r} was scored on other classes than the report's")
        for item in self.gallery:
            self._check_item(item, names)

    def _check_item(self, item: GalleryItem, names: Sequence[str]) -> None:
        for name in (*item.cams, *item.labels):
            if name not in names:
                raise ValueError(f"image {item.image_id!r} has a map of {name!r}; the results are {names}")
        for name, labels in item.labels.items():
            wrong = labels[(labels > len(self.classes)) & (labels != 255)]
            if wrong.size:
                raise ValueError(
                    f"label map {name!r} of {item.image_id!r}: label {wrong[0]} outside "
                    f"0..{len(self.classes)}"
                )
        for name, cam in item.cams.items():
            if max(cam.maps.class_ids, default=0) >= len(self.classes):
                raise ValueError(
                    f"CAM {name!r} of {item.image_id!r}: classes outside 0..{len(self.classes) - 1}"
                )


def select_gallery(scores: Mapping[str, float | None], limit: int = MAX_GALLERY) -> tuple[str, ...]:
    """Ids of the images to show: half of them the best, half the worst, best first.

    Args:
      scores: image id -> the image's score; images without one (None) are chosen only if nothing else is.
      limit: number of ids wanted.

    Returns:
      At most `limit` ids; equal scores are ordered by id, so that the choice is reproducible.
    """
    scored = sorted((-score, image_id) for image_id, score in scores.items() if score is not None)
    ids = [image_id for _, image_id in scored] or sorted(scores)
    if len(ids) <= limit:
        return tuple(ids)
    best, worst = (limit + 1) // 2, limit // 2
    return tuple(ids[:best] + ids[len(ids) - worst :])


def check_image(image: np.ndarray, name: str) -> None:
    """ValueError if this is no RGB image uint8[H, W, 3] with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"{name} is {image.dtype}{list(image.shape)}, not uint8[H, W, 3]")


def check_labels(labels: np.ndarray, size: tuple[int, ...], name: str) -> None:
    """ValueError if this is no label map uint8[H, W] of the size."""
    if labels.shape != size or labels.dtype != np.uint8:
        raise ValueError(f"{name} is {labels.dtype}{list(labels.shape)}, not uint8{list(size)}")
