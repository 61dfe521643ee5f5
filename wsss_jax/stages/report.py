"""Stage `report`: one HTML page of scores, curves and pictures."""

import itertools
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
from PIL import Image

from wsss_jax.evaluation.sweep import image_miou
from wsss_jax.methods import TITLES
from wsss_jax.report import (
    Figure,
    GalleryCam,
    GalleryItem,
    ReportData,
    Result,
    Series,
    select_gallery,
    write_report,
)
from wsss_jax.report.contents import MAX_RESULTS
from wsss_jax.stages.context import Run, require
from wsss_jax.stages.evaluate import read_cam, read_mask
from wsss_jax.stages.layout import Layout
from wsss_jax.training.metrics import read_lines


def report(run: Run) -> None:
    """Writes report/index.html from the metrics and CAMs on disk."""
    split = run.config.dataset.eval_split
    require(run.layout.metrics("eval_cam", split), "scores", "eval_cam")
    results = dict(itertools.islice(_results(run, split), MAX_RESULTS))
    data = ReportData(
        title=f"{next(iter(results))} on {run.source.name}",
        summary=_summary(run),
        classes=run.source.classes,
        results=[Result(name=name, metrics=metrics) for name, (metrics, _) in results.items()],
        gallery=_gallery(run, results),
        gallery_note=f"Half of them the best of {split}, half the worst, at the fixed threshold.",
        training=list(_training(run)),
        figures=list(_subcategories(run)),
    )
    write_report(run.layout.report, data)
    run.say(f"report: {run.layout.report.as_uri()}")


def _results(run: Run, split: str) -> Iterator[tuple[str, tuple[dict[str, Any], Layout]]]:
    """Names and metrics of what is there of `_layouts`, in that order."""
    for name, layout in _layouts(run).items():
        path = layout.metrics("eval_cam", split)
        if path.exists():
            yield name, (json.loads(path.read_text()), layout)


def _layouts(run: Run) -> dict[str, Layout]:
    """This run, the ordinary classifier that it trained, and SC-CAM's rounds before, newest first."""
    own = TITLES[run.config.method]
    layouts = {own: run.layout}
    layouts.setdefault(TITLES["cam"], Layout(run.layout.classifier))
    if run.config.method == "sc_cam":
        for number in range(run.config.sc_cam.rounds - 1, 0, -1):
            layouts[f"{own}, round {number}"] = run.layout.round(number)
    return layouts


def _summary(run: Run) -> dict[str, str]:
    config, manifest = run.config, json.loads(run.layout.manifest.read_text())
    packages = manifest["packages"]
    model = config.model
    return {
        "Method": TITLES[config.method],
        "Data set": f"{run.source.name}, trained on {config.dataset.train_split}",
        "Network": f"ResNet-38, width {model.width:g}, blocks {tuple(model.blocks)}",
        "Started from": config.init_from,
        "Training": f"{config.total_epochs} epochs, batch {config.batch_size}, crop {config.augment.crop}",
        "Seed": str(config.seed),
        "Devices": ", ".join(sorted(set(manifest["devices"]))) + f" x {len(manifest['devices'])}",
        "Versions": f"wsss_jax {manifest['wsss_jax']}, jax {packages['jax']}, flax {packages['flax']}",
        "Written": date.today().isoformat(),
    }


def _training(run: Run) -> Iterator[Series]:
    """The loss curves of this run and of those in it."""
    for name, layout in itertools.islice(_layouts(run).items(), MAX_RESULTS):
        lines = read_lines(layout.logs / "train.jsonl")
        if lines:
            yield Series(
                name=f"{name}: loss",
                x=[line["step"] for line in lines],
                y=[line["loss"] for line in lines],
            )


def _subcategories(run: Run) -> Iterator[Figure]:
    """The pictures that the stage `cluster` has drawn, if it has."""
    for name in run.source.classes:
        path = run.layout.subcategory(name)
        if path.exists():
            yield Figure(
                title=f"Sub-categories of {name}",
                caption="Each with its number of training images, and those nearest to its centre.",
                image=np.asarray(Image.open(path).convert("RGB")),
            )


def _gallery(run: Run, results: dict[str, tuple[dict[str, Any], Layout]]) -> list[GalleryItem]:
    """The best and the worst pictures of the split by the first result."""
    split, config = run.config.dataset.eval_split, run.config
    metrics, layout = next(iter(results.values()))
    threshold = metrics["fixed"]["threshold"]
    ids = run.ids(split)
    scores = {i: _read(run, layout, i, threshold).miou for i in ids}
    return [_item(run, results, image_id) for image_id in select_gallery(scores, config.report.images)]


def _item(run: Run, results: dict[str, tuple[dict[str, Any], Layout]], image_id: str) -> GalleryItem:
    cams = {
        name: _read(run, layout, image_id, metrics["fixed"]["threshold"])
        for name, (metrics, layout) in results.items()
    }
    return GalleryItem(
        image_id=image_id, image=run.source.image(image_id), mask=read_mask(run, image_id), cams=cams
    )


def _read(run: Run, layout: Layout, image_id: str, threshold: float) -> GalleryCam:
    keys, cam = read_cam(layout.cam(run.config.dataset.infer_split, image_id), image_id)
    mask = read_mask(run, image_id)
    miou = image_miou(
        cam, keys, mask, num_classes=len(run.source.classes), threshold=threshold, image_id=image_id
    )
    return GalleryCam(keys=keys, cam=cam, miou=miou)
