"""What a run has scored so far, and the maps behind each score."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from wsss_jax.data.lists import split_name
from wsss_jax.errors import RunError
from wsss_jax.evaluation import ImageScore, image_label_score
from wsss_jax.files import read_json
from wsss_jax.report import GalleryCam
from wsss_jax.runs.context import Run, SubRun
from wsss_jax.runs.layout import Layout
from wsss_jax.runs.parts import known_stages
from wsss_jax.runs.scored import COMPARED, OTHER, OWN, Map, Scored
from wsss_jax.stages.evaluate import read_mask


def places(run: Run) -> dict[str, SubRun]:
    """The runs of a run by name: those that its stages run within it, and itself."""
    inner = [sub for stage in run.system.stages for sub in stage.inner(run)]
    return {each.title or each.run.system.title: each for each in (*inner, SubRun(run, ()))}


def scored_stages(run: Run) -> list[Scored]:
    """Every scored stage of the runs in `places`, in their order.

    Raises:
      RunError: a metrics file is damaged.
    """
    return [
        entry if place.run is run else _of_inner(place, entry)
        for place in places(run).values()
        for entry in _scored_in(place.run)
    ]


def main_results(scored: Sequence[Scored], split: str, limit: int) -> list[Scored]:
    """The results of a split that a report shows at large, chosen by what they are, never by their scores.

    They are the run's own CAMs, those that they are compared with, the CRF of the lowest alpha and the pseudo
    masks; where some are missing, others take the free places. Their order is that of `scored`, as
    everywhere.
    """
    of_split = [entry for entry in scored if entry.metrics["split"] == split]
    first = {entry.kind: entry for entry in reversed(of_split) if entry.kind != OTHER}
    main = [first[kind] for kind in sorted(first)]
    chosen = [*main, *(entry for entry in of_split if entry not in main)][:limit]
    return sorted(chosen, key=scored.index)


def own_score(run: Run, shown: Map, image_id: str) -> ImageScore | None:
    """The image's own score; None where all of its truth is void."""
    if isinstance(shown, GalleryCam):
        return shown.score
    classes = len(run.source.classes)
    return image_label_score(shown, read_mask(run, image_id), num_classes=classes, image_id=image_id)


def _scored_in(run: Run) -> list[Scored]:
    """What is scored in one folder, by the order of the stages."""
    found, stages = [], known_stages(run)
    for name, metrics in _metrics_files(run.layout):
        last = len(stages), Scored(name, OTHER, metrics, None)
        for place, stage in enumerate(stages):
            entry = stage.scored(run, name, metrics) if f"{name}_".startswith(f"{stage.name}_") else None
            if entry is not None:
                last = place, entry
        found.append(last)
    found.sort(key=lambda item: (item[0], item[1].order, item[1].metrics["split"]))
    return [entry for _, entry in found]


def _of_inner(place: SubRun, scored: Scored) -> Scored:
    """How a result of a run within the run is called there."""
    if scored.kind == OWN and not place.title:
        return dataclasses.replace(scored, kind=COMPARED)
    title = place.title or place.run.system.title
    name = title if scored.kind == OWN else f"{title}: {scored.name}"
    return dataclasses.replace(scored, name=name, kind=OTHER)


def _metrics_files(layout: Layout) -> list[tuple[str, dict[str, Any]]]:
    """Stages, as the files are named, and their metrics."""
    found = []
    for path in sorted(layout.all_metrics.glob("*.json")):
        metrics = read_json(path, "delete it and run the stage that it names again")
        if not {"split", "method", "fixed", "thresholds"} <= metrics.keys():
            raise RunError(f"{path}: not a metrics file; move it out of this folder")
        found.append((path.stem.removesuffix(f"_{split_name(metrics['split'])}"), metrics))
    return found
