"""Stage `report`: one HTML page of scores, curves and images."""

import functools
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import RunError
from wsss_jax.report import (
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
from wsss_jax.runs.context import TRAIN_SPLIT, Run, Stage
from wsss_jax.runs.parts import known_stages, parts
from wsss_jax.runs.scored import Read, Scored
from wsss_jax.stages.evaluate import read_mask
from wsss_jax.stages.results import main_results, own_score, places, scored_stages
from wsss_jax.training.metrics import read_lines

_BESIDE = ("gradient_norm", "learning_rate")  # in a training's log, and drawn beside the terms of its loss


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
        title=f"{run.system.title} on {run.source.name}",
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
        figures=[figure for stage in known_stages(run) for figure in stage.figures(run)],
    )
    write_report(run.layout.report, data)
    run.say(f"report: {run.layout.report.as_uri()}")


def _result(scored: Scored) -> Result:
    return Result(name=scored.name, metrics=scored.metrics, threshold=scored.threshold)


def _summary(run: Run) -> dict[str, str]:
    config, made = run.config, manifest.read(run.layout.manifest)
    packages, epochs = made["packages"], run.system.epochs(config)
    network = next(iter(run.method.networks.values()))
    training = {
        "Started from": config.init_from,
        "Training": f"{epochs} epochs, batch {config.batch_size}, crop {config.augment.crop}",
    }
    return {
        "Method": run.system.title,
        "Data set": f"{run.source.name}, trained on {config.dataset.train_split}",
        "Network": f"{network.backbone}, width {network.width:g}, blocks {tuple(network.blocks)}",
        **(training if any(stage.name == "train" for stage in run.system.stages) else {}),
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
    """Sentences on scored images that were trained on, by the networks of this run or others."""
    dataset, warnings = run.config.dataset, []
    every = [(part.run, stage) for part in parts(run, run.system.stages) for stage in part.stages]
    if any(TRAIN_SPLIT in stage.reads(inner.config) for inner, stage in every):
        scored = set(run.ids(dataset.eval_split))
        seen = len(scored & set(run.ids(dataset.train_split)))
        if seen:
            warnings.append(
                f"{seen:,} of the {len(scored):,} scored images ({dataset.eval_split}) were trained on "
                f"({dataset.train_split}), with their image-level labels: the scores tell how good the maps "
                "of training images are, not those of new ones."
            )
    return [*warnings, *dict.fromkeys(result.warning for result in results if result.warning)]


def _sorted_by(results: Sequence[Scored]) -> str:
    """The most telling result of which there are maps."""
    readable = [entry for entry in results if entry.read is not None]
    return min(readable, key=lambda entry: entry.kind).name if readable else ""


def _training(run: Run) -> list[Series]:
    """The loss curves, in the order in which the networks are trained."""
    folders = {name: place.run.layout.logs for name, place in places(run).items()}
    folders |= _further_trainings(run)
    curves = (
        _curve(f"{name}: loss", read_lines(folder / "train.jsonl"), "loss")
        for name, folder in folders.items()
    )
    return [curve for curve in curves if curve.x]


def _further_trainings(run: Run) -> dict[str, Path]:
    """The folders of logs of what the run trains besides its system."""
    trainings = [stage.training for stage in known_stages(run) if stage.training]
    return {title: run.layout.logs / folder for title, folder in trainings}


def _terms(run: Run) -> list[Series]:
    """The terms of the run's own loss, where there is more than one, gradient norm and learning rate."""
    title, folders = run.system.title, (run.layout.logs, *_further_trainings(run).values())
    lines = next(filter(None, (read_lines(folder / "train.jsonl") for folder in folders)), [])
    keys = dict.fromkeys(key for line in lines for key in line)
    terms = [key for key in keys if key.startswith("loss_")]
    shown = [*(terms if len(terms) > 1 else ()), *(key for key in _BESIDE if key in keys)]
    return [_curve(f"{title}: {key.removeprefix('loss_').replace('_', ' ')}", lines, key) for key in shown]


def _curve(name: str, lines: Sequence[Mapping[str, Any]], key: str) -> Series:
    """The values of one key; lines without it are left out."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    return Series(name=name, x=[x for x, _ in points], y=[y for _, y in points])


def _gallery(run: Run, results: Sequence[Scored]) -> list[GalleryItem]:
    """The best and the worst images of the split by the result that `_sorted_by` names."""
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


REPORT = Stage(name="report", function=report, last=True)
