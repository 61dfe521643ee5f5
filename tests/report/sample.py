"""A small made report with hostile names, shared by the tests of the page and of the browser."""

import dataclasses

import numpy as np

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.evaluation import (
    ConfusionMatrix,
    ImageScore,
    ThresholdSweep,
    image_score,
    summarise,
    summarise_labels,
    threshold_range,
)
from wsss_jax.report import GalleryCam, GalleryItem, ReportData, Result, Series

CLASSES = ("disc", "<script>alert(1)</script>", 'bar" onload="alert(2)')
HOSTILE_ID = "b'\"><img src=x onerror=alert(3)>"
THRESHOLDS = threshold_range(0.0, 0.9, 0.05)
NAMES = ("classifier", "OC-CSE <b>")


def provenance(**changes):
    return {
        "stage": "eval_cam",
        "method": "cse",
        "dataset": "shapes",
        "split": "train",
        "list_sha256": "1f0c2a9b" * 8,
        "classes": CLASSES,
        "scales": (0.5, 1.0),
        "flip": True,
        "crf": False,
        "class_filter": "given",
        "weights_sha256": "77ab01c4" * 8,
    } | changes


def picture(rng, height, width):
    """Random image, a mask with two classes and void, and smooth scores that follow it roughly."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2] = 1
    mask[height // 2 :, width // 2 :] = 3
    mask[0] = 255
    ramp = (
        np.linspace(0, 1, width, dtype=np.float32)[None]
        * np.linspace(0.2, 1, height, dtype=np.float32)[:, None]
    )
    cam = np.stack([ramp, ramp[:, ::-1]]).astype(np.float32)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8), mask, cam


def make_items():
    rng = np.random.default_rng(0)
    items = []
    for image_id, size in (("a1", (40, 60)), (HOSTILE_ID, (60, 40)), ("c3", (50, 50))):
        image, mask, cam = picture(rng, *size)
        cams = {}
        for number, name in enumerate(NAMES):
            maps = ClassMaps(np.array([0, 2], np.int32), cam[::-1] if number == 0 else cam)
            score = image_score(maps, mask, num_classes=3, threshold=0.15)
            # Rising with the picture by mIoU, falling by foreground IoU.
            score = ImageScore(score.miou + 0.01 * len(items), score.foreground - 0.01 * len(items))
            cams[name] = GalleryCam(maps=maps, score=score)
        items.append(GalleryItem(image_id=image_id, image=image, mask=mask, cams=cams))
    return items


def make_report(**changes):
    items = make_items()
    results = []
    for name in NAMES:
        sweep = ThresholdSweep(num_classes=3, thresholds=THRESHOLDS)
        for item in items:
            sweep.add(item.cams[name].maps, item.mask)
        results.append(Result(name=name, metrics=summarise(sweep, 0.15, provenance=provenance())))
    values = {
        "title": "Report & <title>",
        "summary": {"Method": "cse", "Versions <i>": "1.0 & more", "Command": "main --config=<b> " * 8},
        "classes": CLASSES,
        "results": results,
        "gallery": items,
        "gallery_note": "3 of 3 images.",
        "training": [Series(name="loss", x=[0, 10, 20, 30], y=[1.0, 0.5, float("nan"), 0.25])],
    }
    return ReportData(**(values | changes))


PSEUDO = "pseudo <masks>"


def make_stages_report():
    """A report of more stages than have headlines, with label maps beside the CAMs and terms of the loss."""
    report = make_report()
    confusion, shares = ConfusionMatrix(num_classes=3), ThresholdSweep(num_classes=3, thresholds=(0.4, 0.5))
    items = []
    for item in report.gallery:
        labels = np.where(item.mask == 255, 0, item.mask).astype(np.uint8)
        labels[:, :5] = 255
        confusion.add(np.where(labels == 255, 0, labels).astype(np.uint8), item.mask)
        cam = item.cams[NAMES[0]]
        shares.add(cam.maps, item.mask)
        items.append(dataclasses.replace(item, labels={"CRF, alpha 4": labels, PSEUDO: labels}))
    crf = summarise_labels(confusion, provenance=provenance(stage="eval_crf", crf="alpha 4"))
    other = {**report.results[0].metrics, "split": "val", "oracle": {"threshold": 0.4}}
    propagated = summarise(shares, 0.5, provenance=provenance(stage="eval_pseudo"), threshold_from=other)
    stages = [
        *report.results,
        Result(name="CRF, alpha 4", metrics=crf),
        Result(name="CRF, alpha 24", metrics=crf),
        Result(name=PSEUDO, metrics=propagated, threshold="score relative to background"),
    ]
    return dataclasses.replace(
        report,
        results=[stages[i] for i in (0, 1, 2, 4)],
        stages=stages,
        gallery=items,
        terms=[Series(name=name, x=[0, 10], y=[1.0, 0.5]) for name in ("cls", "er <i>")],
    )


def make_label_map_report():
    """A report of label maps only: no curve, no gallery."""
    confusion = ConfusionMatrix(num_classes=3)
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    confusion.add(labels, labels)
    given = provenance(stage="eval_seg", crf="alpha 4", flip=None, scales=None)
    metrics = summarise_labels(confusion, provenance=given)
    return make_report(results=[Result(name="seg", metrics=metrics)], gallery=(), training=())
