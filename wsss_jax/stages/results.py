"""What a run has scored so far, and the maps behind each score."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss_jax.data.images import read_mask as read_label_map
from wsss_jax.data.lists import split_name
from wsss_jax.data.score_files import read_scores
from wsss_jax.errors import RunError
from wsss_jax.evaluation import ImageScore, image_label_score, image_score, labels_from_scores
from wsss_jax.files import read_json
from wsss_jax.report import GalleryCam
from wsss_jax.runs.context import Run
from wsss_jax.runs.layout import Layout
from wsss_jax.stages.evaluate import read_cam, read_mask
from wsss_jax.systems import TITLES

OWN, CLASSIFIER, CRF, PSEUDO, OTHER = range(5)  # kinds of results, the most telling first

Map = GalleryCam | np.ndarray
Read = Callable[[str], Map]


@dataclass(frozen=True, eq=False)
class Scored:
    """A scored stage.

    Attributes:
      name: such as 'OC-CSE' for its CAMs or 'CRF, alpha 4'.
      kind: OWN for the run's own CAMs, CLASSIFIER for the ordinary classifier's, CRF, PSEUDO masks or OTHER.
      metrics: as the stage wrote them.
      read: given an image id, what was scored, a CAM or a label map uint8[H, W]; None if it is not on disk.
    """

    name: str
    kind: int
    metrics: dict[str, Any]
    read: Read | None


def places(run: Run) -> dict[str, Layout]:
    """The runs of a run by name: the ordinary classifier that it trained, SC-CAM's earlier rounds, itself."""
    own = TITLES[run.config.method]
    layouts = {TITLES["cam"]: Layout(run.layout.classifier)}
    if run.config.method == "sc_cam":
        for number in range(1, run.config.sc_cam.rounds):
            layouts[f"{own}, round {number}"] = run.layout.round(number)
    layouts.pop(own, None)
    return {**layouts, own: run.layout}


def scored_stages(run: Run) -> list[Scored]:
    """Every scored stage of the runs in `places`, in their order.

    Raises:
      RunError: a metrics file is damaged.
    """
    return [
        _scored(run, name, layout, stage, metrics)
        for name, layout in places(run).items()
        for stage, metrics in _metrics_files(layout)
    ]


def main_results(scored: Sequence[Scored], split: str, limit: int) -> list[Scored]:
    """The results of a split that a report shows at large, chosen by what they are, never by their scores.

    They are the run's own CAMs, the ordinary classifier's, the CRF of the lowest alpha and the pseudo masks;
    where some are missing, others take the free places. Their order is that of `scored`, as everywhere.
    """
    of_split = [entry for entry in scored if entry.metrics["split"] == split]
    first = {entry.kind: entry for entry in reversed(of_split) if entry.kind != OTHER}
    main = [first[kind] for kind in sorted(first)]
    chosen = [*main, *(entry for entry in of_split if entry not in main)][:limit]
    return sorted(chosen, key=scored.index)


def own_score(run: Run, shown: Map, image_id: str) -> ImageScore | None:
    """The picture's own score; None where all of its truth is void."""
    if isinstance(shown, GalleryCam):
        return shown.score
    classes = len(run.source.classes)
    return image_label_score(shown, read_mask(run, image_id), num_classes=classes, image_id=image_id)


def _metrics_files(layout: Layout) -> list[tuple[str, dict[str, Any]]]:
    """Stages, as the files are named, and their metrics: CAMs, then CRFs by rising alpha, then others."""
    found = []
    for path in layout.all_metrics.glob("*.json"):
        metrics = _read_json(path)
        found.append((path.stem.removesuffix(f"_{split_name(metrics['split'])}"), metrics))
    return sorted(found, key=lambda entry: (_order(entry[0]), entry[1]["split"]))


def _read_json(path: Path) -> dict[str, Any]:
    metrics = read_json(path, "delete it and run the stage that it names again")
    if not {"split", "method", "fixed", "thresholds"} <= metrics.keys():
        raise RunError(f"{path}: not a metrics file; move it out of this folder")
    return metrics


def _order(stage: str) -> tuple[int, float, str]:
    alpha = _crf_alpha(stage)
    if alpha is not None:
        return 1, alpha, stage
    return (0 if stage == "eval_cam" else 2), 0.0, stage


def _scored(run: Run, place: str, layout: Layout, stage: str, metrics: dict[str, Any]) -> Scored:
    """One stage and where its maps are; only CAMs are made in other places than the run itself."""
    split, alpha = run.config.dataset.infer_split, _crf_alpha(stage)
    read: Read
    if stage == "eval_cam":
        name, kind = _cam_result(run, place, layout, metrics)
        if not layout.cams(split).is_dir():  # runs within the run make those of the scored pictures only
            split = run.config.dataset.eval_split
        folder, read = layout.cams(split), functools.partial(_cam, run, layout, split, metrics)
    elif alpha is not None:
        name, kind = f"CRF, alpha {alpha:g}", CRF
        folder, read = layout.crfs(split, alpha), functools.partial(_crf, run, layout, alpha)
    elif stage == "eval_pseudo":
        name, kind = "pseudo masks", PSEUDO
        folder, read = layout.pseudos(split), functools.partial(_pseudo, run, layout)
    else:
        return Scored(stage, OTHER, metrics, None)
    return Scored(name, kind, metrics, read if folder.is_dir() else None)


def _cam_result(run: Run, place: str, layout: Layout, metrics: dict[str, Any]) -> tuple[str, int]:
    """Name and kind of CAMs, which are by another method than the run's where it refines another run's."""
    if layout != run.layout and place != TITLES["cam"]:
        return place, OTHER
    return TITLES[metrics["method"]], OWN if layout == run.layout else CLASSIFIER


def _crf_alpha(stage: str) -> float | None:
    found = re.fullmatch(r"eval_crf_alpha_(\d+(?:\.\d+)?)", stage)
    return float(found[1]) if found else None


def _cam(run: Run, layout: Layout, split: str, metrics: dict[str, Any], image_id: str) -> GalleryCam:
    """A CAM and its score at the fixed threshold."""
    keys, cam = read_cam(layout.cam(split, image_id), image_id)
    score = image_score(
        cam,
        keys,
        read_mask(run, image_id),
        num_classes=len(run.source.classes),
        threshold=metrics["fixed"]["threshold"],
        image_id=image_id,
    )
    return GalleryCam(keys=keys, cam=cam, score=score)


def _crf(run: Run, layout: Layout, alpha: float, image_id: str) -> np.ndarray:
    path = layout.crf(run.config.dataset.infer_split, alpha, image_id)
    keys, planes = read_scores(path, image_id, "crf")
    return labels_from_scores(planes, keys, len(run.source.classes), image_id=image_id)


def _pseudo(run: Run, layout: Layout, image_id: str) -> np.ndarray:
    path = layout.pseudo(run.config.dataset.infer_split, image_id)
    return read_label_map(path, image_id, len(run.source.classes))
