"""Stage `report`: one HTML page of scores, curves and pictures."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from wsss_jax.data.images import open_image
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import RunError
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
from wsss_jax.runs import manifest
from wsss_jax.runs.context import Run
from wsss_jax.stages.evaluate import read_mask
from wsss_jax.stages.results import PSEUDO, Read, Scored, main_results, own_score, places, scored_stages
from wsss_jax.systems import TITLES
from wsss_jax.systems.sc_cam.rounds import last_epoch
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
        warnings=_warnings(run, results),
        classes=run.source.classes,
        results=[_result(entry) for entry in results],
        stages=[_result(entry) for entry in scored],
        sorted_by=_sorted_by(results),
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
    config, made = run.config, manifest.read(run.layout.manifest)
    packages, model = made["packages"], config.model
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
        "Devices": ", ".join(sorted(set(made["devices"]))) + f" x {len(made['devices'])}",
        "Versions": f"wsss_jax {made['wsss_jax']}, jax {packages['jax']}, flax {packages['flax']}",
        "Written": date.today().isoformat(),
        **_origin(run, made),
    }


def _origin(run: Run, made: Mapping[str, Any]) -> dict[str, str]:
    """Where, when and how the run was started; of several starts, the last one's command and commit."""
    starts = made["starts"]
    again = f", started {len(starts)} times" if len(starts) > 1 else ""
    return {
        "Time taken": f"{_clock(manifest.seconds(made))}{again}",
        "Commit": starts[-1]["commit"] or "unknown: not run from a clone",
        "Folder": str(run.layout.workdir),
        "Command": starts[-1]["command"],
    }


def _clock(seconds: float) -> str:
    """Such as 1:02:30 (hours, minutes, seconds)."""
    return str(timedelta(seconds=round(seconds)))


def _warnings(run: Run, results: Sequence[Scored]) -> list[str]:
    """Sentences on scored pictures that were trained on, by the networks of this run or by AffinityNet."""
    dataset, stages, warnings = run.config.dataset, run.method.stages, []
    if "train" in stages or ("classifier" in stages and not run.config.classifier_from):
        scored = set(run.ids(dataset.eval_split))
        seen = len(scored & set(run.ids(dataset.train_split)))
        if seen:
            warnings.append(
                f"{seen:,} of the {len(scored):,} scored pictures ({dataset.eval_split}) were trained on "
                f"({dataset.train_split}), with their image-level labels: the scores tell how good the maps "
                "of training pictures are, not those of new ones."
            )
    if any(e.metrics.get("affinity_list_sha256") == e.metrics["list_sha256"] is not None for e in results):
        warnings.append("AffinityNet was trained on the CAMs of the very pictures that are scored.")
    return warnings


def _sorted_by(results: Sequence[Scored]) -> str:
    """The most telling result of which there are maps."""
    readable = [entry for entry in results if entry.read is not None]
    return min(readable, key=lambda entry: entry.kind).name if readable else ""


def _training(run: Run) -> list[Series]:
    """The loss curves, in the order in which the networks are trained."""
    folders = {name: layout.logs for name, layout in places(run).items()}
    folders[TITLES["affinity"]] = run.layout.affinity_logs
    curves = (
        _curve(f"{name}: loss", read_lines(folder / "train.jsonl"), "loss")
        for name, folder in folders.items()
    )
    return [curve for curve in curves if curve.x]


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
                image=np.asarray(open_image(path).convert("RGB")),
            )


def _gallery(run: Run, results: Sequence[Scored]) -> list[GalleryItem]:
    """The best and the worst pictures of the split by the result that `_sorted_by` names."""
    readable = {entry.name: entry.read for entry in results if entry.read is not None}
    if not readable:
        return []
    ids, read = run.ids(run.config.dataset.eval_split), readable[_sorted_by(results)]
    score = functools.partial(_score, run, read)
    scores = dict(zip(ids, map_ordered(score, ids, threads=run.config.loader.threads), strict=True))
    return [_item(run, readable, image_id) for image_id in select_gallery(scores, run.config.report.images)]


def _score(run: Run, read: Read, image_id: str) -> float | None:
    score = own_score(run, read(image_id), image_id)
    return None if score is None else score.miou


def _item(run: Run, readable: Mapping[str, Read], image_id: str) -> GalleryItem:
    maps = {name: read(image_id) for name, read in readable.items()}
    return GalleryItem(
        image_id=image_id,
        image=run.source.image(image_id),
        mask=read_mask(run, image_id),
        cams={name: shown for name, shown in maps.items() if isinstance(shown, GalleryCam)},
        labels={name: shown for name, shown in maps.items() if isinstance(shown, np.ndarray)},
    )
