"""Stage `report`: one HTML page of scores, curves and pictures."""

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from wsss_jax.evaluation.sweep import image_miou
from wsss_jax.methods import TITLES
from wsss_jax.report import GalleryCam, GalleryItem, ReportData, Result, Series, select_gallery, write_report
from wsss_jax.stages.context import Run, require
from wsss_jax.stages.evaluate import read_cam, read_mask
from wsss_jax.stages.layout import Layout
from wsss_jax.training.metrics import read_lines


def report(run: Run) -> None:
    """Writes report/index.html from the metrics and CAMs on disk."""
    split = run.config.dataset.eval_split
    require(run.layout.metrics("eval_cam", split), "scores", "eval_cam")
    results = {TITLES[m["method"]]: (m, layout) for m, layout in _results(run, split)}
    data = ReportData(
        title=f"{next(iter(results))} on {run.source.name}",
        summary=_summary(run),
        classes=run.source.classes,
        results=[Result(name=name, metrics=metrics) for name, (metrics, _) in results.items()],
        gallery=_gallery(run, results),
        gallery_note=f"Half of them the best of {split}, half the worst, at the fixed threshold.",
        training=list(_training(run)),
    )
    write_report(run.layout.report, data)
    run.say(f"report: {run.layout.report.as_uri()}")


def _results(run: Run, split: str) -> Iterator[tuple[dict[str, Any], Layout]]:
    """This run's metrics, then those of the ordinary classifier that it trained, if it did."""
    for layout in (run.layout, Layout(run.layout.classifier)):
        path = layout.metrics("eval_cam", split)
        if path.exists():
            yield json.loads(path.read_text()), layout


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
    """The loss curves of this run and of the classifier in it."""
    for name, layout in ((run.config.method, run.layout), ("cam", Layout(run.layout.classifier))):
        lines = read_lines(layout.logs / "train.jsonl")
        if lines:
            yield Series(
                name=f"{TITLES[name]}: loss",
                x=[line["step"] for line in lines],
                y=[line["loss"] for line in lines],
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
