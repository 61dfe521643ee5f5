"""The gallery: every picture shrunk, quantised and embedded; the page's script draws the label maps."""

import dataclasses
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image

from wsss_jax.report import embed
from wsss_jax.report.contents import GalleryCam, GalleryItem, ReportData
from wsss_jax.report.overlay import cam_overlay, palette_png

MAX_SIDE = 256  # pixels; keeps a report of 24 pictures at a few MB
MAX_OVERLAYS = 6  # CAM overlays per picture and result; the classes with the highest scores
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


def score_maps(cam: GalleryCam, size: tuple[int, int]) -> ScoreMaps:
    """Best-score and label map of a CAM at size (h, w); scores are clipped to 0..1."""
    order = np.argsort(cam.keys)
    if not len(order):
        return ScoreMaps(best=np.zeros(size, np.uint8), labels=np.zeros(size, np.uint8))
    planes = np.stack([np.clip(_resize_scores(cam.cam[i], size), 0, 1) for i in order])
    best = np.round(255 * planes.max(axis=0)).astype(np.uint8)
    labels = (np.asarray(cam.keys)[order] + 1).astype(np.uint8)[planes.argmax(axis=0)]
    return ScoreMaps(best=best, labels=labels)


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) shrunk to at most MAX_SIDE, keeping the aspect; small pictures stay as they are."""
    return embed.shrunken_size(size, MAX_SIDE)


def gallery_cards(report: ReportData) -> Iterator[str]:
    """One HTML card per picture, in the given order."""
    for item in report.gallery:
        yield _card(item, report)


def shown_labels(report: ReportData) -> list[int]:
    """Labels (class index + 1) that occur in the gallery, ascending; without a gallery none."""
    labels: set[int] = set()
    for item in report.gallery:
        if item.mask is not None:
            labels.update(np.unique(item.mask).tolist())
        for cam in item.cams.values():
            labels.update((np.asarray(cam.keys) + 1).tolist())
    return sorted(labels - {0, 255})


def _card(item: GalleryItem, report: ReportData) -> str:
    size = thumbnail_size(item.image.shape[:2])
    image = embed.shrink(item.image, size)
    groups, scores = [], []
    for index, result in enumerate(report.results):
        cam = item.cams.get(result.name)
        scores.append("-" if cam is None or cam.miou is None else f"{cam.miou:.6f}")
        if cam is not None:
            groups.append(_result_group(item.image_id, cam, index, result.name, image, size, report.classes))
    return (
        f'<article class="card" data-id="{escape(item.image_id)}" '
        f'data-scores="{" ".join(scores)}">'
        f"{_picture_group(item, image, size, report.classes)}"
        f'<div class="groups">{"".join(groups)}</div></article>'
    )


def _picture_group(
    item: GalleryItem, image: np.ndarray, size: tuple[int, int], classes: Sequence[str]
) -> str:
    name = escape(item.image_id)
    figures = [embed.figure(embed.img(_jpeg(image), size, f"picture {name}", "photo"), "picture")]
    if item.mask is not None:
        mask = np.asarray(Image.fromarray(item.mask).resize(size[::-1], Image.Resampling.NEAREST))
        present = [classes[label - 1] for label in np.unique(mask) if 0 < label <= len(classes)]
        text = escape(", ".join(present) or "background only")
        picture = embed.img(embed.png_uri(palette_png(mask)), size, f"ground truth of {name}: {text}", "map")
        figures.append(embed.figure(f'<div class="stack">{picture}</div>', f"truth: {text}"))
    else:
        figures.append(embed.figure('<p class="missing">no ground truth</p>', ""))
    heading = f'<h3 class="group-name">{name}</h3>'
    return f'<div class="group">{heading}<div class="figures">{"".join(figures)}</div></div>'


def _result_group(
    image_id: str,
    cam: GalleryCam,
    index: int,
    result: str,
    image: np.ndarray,
    size: tuple[int, int],
    classes: Sequence[str],
) -> str:
    maps = score_maps(cam, size)
    text = f"label map of {image_id} by {result} at the slider's threshold"
    canvas = (
        f'<div class="stack"><canvas class="map" width="{size[1]}" height="{size[0]}" role="img" '
        f'aria-label="{escape(text)}" data-best="{embed.grey_png_uri(maps.best)}" '
        f'data-labels="{embed.grey_png_uri(maps.labels)}"></canvas></div>'
    )
    figures = [embed.figure(canvas, "labels at the threshold")]
    for i in _strongest(cam):
        name = classes[int(cam.keys[i])]
        overlay = _jpeg(cam_overlay(image, _resize_scores(cam.cam[i], size)))
        picture = embed.img(overlay, size, escape(f"CAM of {name} by {result}"))
        figures.append(embed.figure(picture, f"CAM: {escape(name)}"))
    hidden = len(cam.keys) - MAX_OVERLAYS
    more = f'<p class="note">{hidden} weaker CAMs are not shown.</p>' if hidden > 0 else ""
    score = "" if cam.miou is None else f'<span class="score">mIoU {100 * cam.miou:.1f}</span>'
    return (
        f'<div class="group"><p class="group-name"><i class="key line{index}"></i>{escape(result)}{score}</p>'
        f'<div class="figures">{"".join(figures)}</div>{more}</div>'
    )


def _strongest(cam: GalleryCam) -> list[int]:
    """Positions of the at most MAX_OVERLAYS planes with the highest peaks, in the order of their classes."""
    peaks = sorted(range(len(cam.keys)), key=lambda i: -float(cam.cam[i].max()))[:MAX_OVERLAYS]
    return sorted(peaks, key=lambda i: int(cam.keys[i]))


def _resize_scores(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    plane = np.ascontiguousarray(plane, np.float32)
    if plane.shape == size:
        return plane
    return np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))


def _jpeg(image: np.ndarray) -> str:
    return embed.jpeg_uri(image, quality=_JPEG_QUALITY)
