"""Stage `eval_pseudo`: scores of the pseudo masks, at all scores relative to background in one pass."""

import functools
from typing import Any

import numpy as np

from wsss_jax.data.images import read_mask as read_label_map
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, Run, Stage, require
from wsss_jax.runs.scored import PSEUDO, Scored
from wsss_jax.stages.evaluate import sweep_split
from wsss_jax.systems.affinity.random_walk import read_relative_foreground

_SAME = "AffinityNet was trained on the CAMs of the very images that are scored."


def eval_pseudo(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics.

    The score at the fixed threshold is that of the masks on disk.
    """
    settings_file = run.layout.propagated(run.config.dataset.infer_split) / "settings.json"
    require(settings_file, "propagated scores", "random_walk")
    sweep_split(run, "eval_pseudo", "walk", settings_file, read_relative_foreground)


def scored(run: Run, name: str, metrics: dict[str, Any]) -> Scored:
    """The masks. Thresholds are shares of a class against the background, not background scores."""
    there = run.layout.pseudos(run.config.dataset.infer_split).is_dir()
    lists = [images["list_sha256"] for images in metrics.get("trained_on", {}).values()]
    return Scored(
        name="pseudo masks",
        kind=PSEUDO,
        metrics=metrics,
        read=functools.partial(_read, run) if there else None,
        threshold="score relative to background",
        warning=_SAME if metrics["list_sha256"] in lists else "",
    )


def _read(run: Run, image_id: str) -> np.ndarray:
    path = run.layout.pseudo(run.config.dataset.infer_split, image_id)
    return read_label_map(path, image_id, len(run.source.classes))


EVAL_PSEUDO = Stage(
    name="eval_pseudo",
    function=eval_pseudo,
    reads=lambda config: (INFER_SPLIT, EVAL_SPLIT),
    refinement="random_walk",
    scored=scored,
)
