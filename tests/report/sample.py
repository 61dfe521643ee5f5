"""A small made report with hostile names, shared by the tests of the page and of the browser."""

import numpy as np

from wsss_jax.evaluation import (
    ConfusionMatrix,
    ThresholdSweep,
    image_miou,
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
    """Random picture, a mask with two classes and void, and smooth scores that follow it roughly."""
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
            keys = np.array([2, 0] if number == 0 else [0, 2], np.int32)
            score = image_miou(cam, keys, mask, num_classes=3, threshold=0.15)
            cams[name] = GalleryCam(keys=keys, cam=cam, miou=score + 0.01 * len(items))
        items.append(GalleryItem(image_id=image_id, image=image, mask=mask, cams=cams))
    return items


def make_report(**changes):
    items = make_items()
    results = []
    for name in NAMES:
        sweep = ThresholdSweep(num_classes=3, thresholds=THRESHOLDS)
        for item in items:
            sweep.add(item.cams[name].cam, item.cams[name].keys, item.mask)
        results.append(Result(name=name, metrics=summarise(sweep, 0.15, provenance=provenance())))
    values = {
        "title": "Report & <title>",
        "summary": {"Method": "cse", "Versions <i>": "1.0 & more"},
        "classes": CLASSES,
        "results": results,
        "gallery": items,
        "gallery_note": "3 of 3 pictures.",
        "training": [Series(name="loss", x=[0, 10, 20, 30], y=[1.0, 0.5, float("nan"), 0.25])],
    }
    return ReportData(**(values | changes))


def make_label_map_report():
    """A report of label maps only: no curve, no gallery."""
    confusion = ConfusionMatrix(num_classes=3)
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    confusion.add(labels, labels)
    given = provenance(stage="eval_seg", crf="alpha 4", flip=None, scales=None)
    metrics = summarise_labels(confusion, provenance=given)
    return make_report(results=[Result(name="seg", metrics=metrics)], gallery=(), training=())
