"""Stage `report`: one HTML page of scores, curves and pictures."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from PIL import Image

from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import RunError
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
from wsss_jax.stages.context import Run
from wsss_jax.stages.evaluate import read_mask
from wsss_jax.stages.results import PSEUDO, Read, Scored, image_score, main_results, places, scored_stages
from wsss_jax.stages.rounds import last_epoch
from wsss_jax.training.metrics import read_lines


def report(run: Run) -> None:
    """Writes report/index.html from the metrics and maps on disk.

    Raises:
      RunError: nothing is scored on `dataset.eval_split`, or a file of metrics or maps is damaged.
    """
    scored = scored_stages(run)
    split = run.config.dataset.eval_split
    results = main_results(scored, split, MAX_RESULTS)
    if not results:
        path = run.layout.metrics("eval_cam", split)
        raise RunError(f"{path}: there are no scores; run the stage eval_cam first (--stages=eval_cam,...)")
    data = ReportData(
        title=f"{TITLES[run.config.method]} on {run.source.name}",
        summary=_summary(run),
        classes=run.source.classes,
        results=[_result(entry) for entry in results],
        stages=[_result(entry) for entry in scored],
        gallery=_gallery(run, results),
        gallery_note=f"Half of them the best of {split}, half the worst, at the fixed threshold.",
        training=_training(run),
        terms=_terms(run),
        figures=list(_subcategories(run)),
    )
    write_report(run.layout.report, data)
    run.say(f"report: {run.layout.report.as_uri()}")


def _result(scored: Scored) -> Result:
    """Thresholds of pseudo masks are shares of a class against the background, not background scores."""
    if scored.kind == PSEUDO:
        return Result(name=scored.name, metrics=scored.metrics, threshold="share against background")
    return Result(name=scored.name, metrics=scored.metrics)


def _summary(run: Run) -> dict[str, str]:
    config, manifest = run.config, json.loads(run.layout.manifest.read_text())
    packages = manifest["packages"]
    model = config.model
    training = {
        "Started from": config.init_from,
        "Training": f"{last_epoch(config)} epochs, batch {config.batch_size}, crop {config.augment.crop}",
    }
    return {
        "Method": TITLES[config.method],
        "Data set": f"{run.source.name}, trained on {config.dataset.train_split}",
        "Network": f"ResNet-38, width {model.width:g}, blocks {tuple(model.blocks)}",
        **(training if "train" in run.method.stages else {}),
        "Seed": str(config.seed),
        "Devices": ", ".join(sorted(set(manifest["devices"]))) + f" x {len(manifest['devices'])}",
        "Versions": f"wsss_jax {manifest['wsss_jax']}, jax {packages['jax']}, flax {packages['flax']}",
        "Written": date.today().isoformat(),
    }


def _training(run: Run) -> list[Series]:
    """The loss curves, the run's own first."""
    folders = {name: layout.logs for name, layout in reversed(places(run).items())}
    folders[TITLES["affinity"]] = run.layout.affinity_logs
    curves = (
        _curve(f"{name}: loss", read_lines(folder / "train.jsonl"), "loss")
        for name, folder in folders.items()
    )
    return [curve for curve in curves if curve.x][:MAX_RESULTS]


def _terms(run: Run) -> list[Series]:
    """The terms of the run's own loss, where there is more than one."""
    title = TITLES[run.config.method]
    lines = read_lines(run.layout.logs / "train.jsonl") or read_lines(
        run.layout.affinity_logs / "train.jsonl"
    )
    keys = dict.fromkeys(key for line in lines for key in line if key.startswith("loss_"))
    terms = [_curve(f"{title}: {key.removeprefix('loss_')}", lines, key) for key in keys]
    return terms if len(terms) > 1 else []


def _curve(name: str, lines: Sequence[Mapping[str, Any]], key: str) -> Series:
    """The values of one key; lines without it are left out."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    return Series(name=name, x=[x for x, _ in points], y=[y for _, y in points])


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


def _gallery(run: Run, results: Sequence[Scored]) -> list[GalleryItem]:
    """The best and the worst pictures of the split by the first result of which there are maps."""
    readable = {entry.name: entry.read for entry in results if entry.read is not None}
    if not readable:
        return []
    ids, read = run.ids(run.config.dataset.eval_split), next(iter(readable.values()))
    score = functools.partial(_score, run, read)
    scores = dict(zip(ids, map_ordered(score, ids, threads=run.config.loader.threads), strict=True))
    return [_item(run, readable, image_id) for image_id in select_gallery(scores, run.config.report.images)]


def _score(run: Run, read: Read, image_id: str) -> float | None:
    return image_score(run, read(image_id), image_id)


def _item(run: Run, readable: Mapping[str, Read], image_id: str) -> GalleryItem:
    maps = {name: read(image_id) for name, read in readable.items()}
    return GalleryItem(
        image_id=image_id,
        image=run.source.image(image_id),
        mask=read_mask(run, image_id),
        cams={name: shown for name, shown in maps.items() if isinstance(shown, GalleryCam)},
        labels={name: shown for name, shown in maps.items() if isinstance(shown, np.ndarray)},
    )
