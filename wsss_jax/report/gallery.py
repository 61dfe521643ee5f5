"""The gallery: every image shrunk, quantised and embedded; the page's script draws the label maps."""

import dataclasses
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.images import palette_png
from wsss_jax.evaluation import ImageScore, image_label_score
from wsss_jax.report import embed
from wsss_jax.report.contents import GalleryItem, ReportData
from wsss_jax.report.overlay import cam_overlay

MAX_SIDE = 384  # pixels; shown at half of it until clicked, and keeps a report of 24 images at a few MB
MAX_OVERLAYS = 6  # CAM overlays per image and result; the classes with the highest scores
_JPEG_QUALITY = 80


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoreMaps:
    """What label maps at any threshold are drawn from.

    Attributes:
      best: uint8[h, w], the pixel's best score times 255, rounded.
      labels: uint8[h, w], the label (class index + 1) of that score, the lowest class where several are best.
    """

    best: np.ndarray
    labels: np.ndarray

    def at(self, threshold: float) -> np.ndarray:
        """The label map uint8[h, w] that the page draws: foreground where best > 255 * threshold."""
        return np.where(self.best > 255 * threshold, self.labels, 0).astype(np.uint8)


def score_maps(maps: ClassMaps, size: tuple[int, int]) -> ScoreMaps:
    """Best-score and label map of a CAM at size (h, w); scores are clipped to 0..1."""
    if not len(maps.class_ids):
        return ScoreMaps(best=np.zeros(size, np.uint8), labels=np.zeros(size, np.uint8))
    planes = np.stack([np.clip(_resize_scores(plane, size), 0, 1) for plane in maps.planes])
    best = np.round(255 * planes.max(axis=0)).astype(np.uint8)
    labels = (maps.class_ids + 1).astype(np.uint8)[planes.argmax(axis=0)]
    return ScoreMaps(best=best, labels=labels)


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) shrunk to at most MAX_SIDE, keeping the aspect; small images stay as they are."""
    return embed.shrunken_size(size, MAX_SIDE)


def gallery_cards(report: ReportData) -> Iterator[str]:
    """One HTML card per image, in the given order."""
    for item in report.gallery:
        size = thumbnail_size(item.image.shape[:2])
        image = _Drawn(item=item, image=embed.shrink(item.image, size), classes=report.classes)
        yield _card(image, [result.name for result in report.results])


def shown_labels(report: ReportData) -> list[int]:
    """Labels (class index + 1) that occur in the gallery, ascending; without a gallery none."""
    labels: set[int] = set()
    for item in report.gallery:
        for label_map in (item.mask, *item.labels.values()):
            if label_map is not None:
                labels.update(np.unique(label_map).tolist())
        for cam in item.cams.values():
            labels.update((cam.maps.class_ids + 1).tolist())
    return sorted(labels - {0, 255})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """An image of the gallery, shrunk to uint8[h, w, 3], and the names of the classes."""

    item: GalleryItem
    image: np.ndarray
    classes: Sequence[str]

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def label_score(self, labels: np.ndarray) -> ImageScore | None:
        """The image's own score of a label map, None without ground truth."""
        item = self.item
        if item.mask is None:
            return None
        return image_label_score(labels, item.mask, num_classes=len(self.classes), image_id=item.image_id)

    def label_figure(self, labels: np.ndarray, what: str, caption: str) -> str:
        """A label map uint8[H, W] in VOC colours, described by the classes in it."""
        shrunk = np.asarray(Image.fromarray(labels).resize(self.size[::-1], Image.Resampling.NEAREST))
        present = [self.classes[label - 1] for label in np.unique(shrunk) if 0 < label <= len(self.classes)]
        names = ", ".join(present) or "background only"
        alt = escape(f"{what} of {self.item.image_id}: {names}")
        image = embed.img(embed.png_uri(palette_png(shrunk)), self.size, alt, "map")
        return embed.figure(f'<div class="stack">{image}</div>', escape(f"{caption}: {names}"))


def _card(image: _Drawn, results: Sequence[str]) -> str:
    item = image.item
    groups, mious, foregrounds = [], [], []
    for index, name in enumerate(results):
        score = None
        if name in item.labels:
            score = image.label_score(item.labels[name])
            shown = image.label_figure(item.labels[name], f"label map by {name}", "label map")
            groups.append(_group(index, name, score, shown, css_class="one"))
        if name in item.cams:
            score = item.cams[name].score
            groups.append(_group(index, name, score, *_cam_figures(image, item.cams[name].maps, name)))
        mious.append(_number(None if score is None else score.miou))
        foregrounds.append(_number(None if score is None else score.foreground))
    return (
        f'<article class="card" data-id="{escape(item.image_id)}" '
        f'data-miou="{" ".join(mious)}" data-foreground="{" ".join(foregrounds)}">'
        f'{_image_group(image)}<div class="groups">{"".join(groups)}</div></article>'
    )


def _image_group(image: _Drawn) -> str:
    name, mask = escape(image.item.image_id), image.item.mask
    photo = embed.img(_jpeg(image.image), image.size, f"image {name}", "photo")
    if mask is not None:
        truth = image.label_figure(mask, "ground truth", "truth")
    else:
        truth = embed.figure('<p class="missing">no ground truth</p>', "")
    heading = f'<h3 class="group-name">{name}</h3>'
    figures = embed.figure(photo, "image") + truth
    return f'<div class="group" data-name="input">{heading}<div class="figures">{figures}</div></div>'


def _group(
    index: int, result: str, score: ImageScore | None, figures: str, note: str = "", css_class: str = ""
) -> str:
    """What one result made of an image, under its name and the image's own score."""
    text = "" if score is None else f'<span class="score">{_score(score)}</span>'
    heading = f'<p class="group-name"><i class="key line{index}"></i>{escape(result)}{text}</p>'
    content = f'{heading}<div class="figures">{figures}</div>{note}'
    return f'<div class="group {css_class}" data-name="{escape(result)}">{content}</div>'


def _score(score: ImageScore) -> str:
    miou = f"mIoU {100 * score.miou:.1f}"
    return miou if score.foreground is None else f"{miou}, foreground {100 * score.foreground:.1f}"


def _number(value: float | None) -> str:
    """What the page's script reads as a number, or as none."""
    return "-" if value is None else f"{value:.6f}"


def _cam_figures(image: _Drawn, cam: ClassMaps, result: str) -> tuple[str, str]:
    """The label map that follows the slider, overlays of the strongest classes, and a note on the others."""
    maps, (height, width) = score_maps(cam, image.size), image.size
    text = f"label map of {image.item.image_id} by {result} at the slider's threshold"
    canvas = (
        f'<div class="stack"><canvas class="map" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(text)}" data-best="{embed.grey_png_uri(maps.best)}" '
        f'data-labels="{embed.grey_png_uri(maps.labels)}"></canvas></div>'
    )
    figures = [embed.figure(canvas, "labels at the threshold")]
    for i in _strongest(cam):
        name = image.classes[int(cam.class_ids[i])]
        overlay = _jpeg(cam_overlay(image.image, _resize_scores(cam.planes[i], image.size)))
        shown = embed.img(overlay, image.size, escape(f"CAM of {name} by {result}"))
        figures.append(embed.figure(shown, f"CAM: {escape(name)}"))
    hidden = len(cam.class_ids) - MAX_OVERLAYS
    note = f'<p class="note">{hidden} weaker CAMs are not shown.</p>' if hidden > 0 else ""
    return "".join(figures), note


def _strongest(cam: ClassMaps) -> list[int]:
    """Positions of the at most MAX_OVERLAYS planes with the highest peaks, in the order of their classes."""
    return sorted(np.argsort(-cam.planes.max(axis=(1, 2)), kind="stable")[:MAX_OVERLAYS].tolist())


def _resize_scores(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    plane = np.ascontiguousarray(plane, np.float32)
    if plane.shape == size:
        return plane
    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))


def _jpeg(image: np.ndarray) -> str:
    return embed.jpeg_uri(image, quality=_JPEG_QUALITY)
