"""Stage `eval_pseudo`: scores of the pseudo masks, at all thresholds in one pass."""

import functools
from typing import Any

import numpy as np

from wsss_jax.data.images import read_mask as read_label_map
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, Run, Stage, require
from wsss_jax.runs.provenance import read_provenance
from wsss_jax.runs.scored import PSEUDO, Scored
from wsss_jax.stages.evaluate import sweep_split
from wsss_jax.stages.walk import SHARE, read_foreground


def eval_pseudo(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics.

    The score at the fixed threshold is that of the masks on disk.
    """
    settings_file = run.layout.propagated(run.config.dataset.infer_split) / "settings.json"
    require(settings_file, "propagated scores", _before(run))
    section = read_provenance(settings_file.parent)["section"]
    sweep_split(run, "eval_pseudo", section, settings_file, read_foreground)


def scored(run: Run, name: str, metrics: dict[str, Any]) -> Scored:
    """The masks, and whether what refined them was trained on the very images that are scored."""
    there = run.layout.pseudos(run.config.dataset.infer_split).is_dir()
    trained_on = metrics.get("trained_on", {})
    same = [name for name, images in trained_on.items() if images["list_sha256"] == metrics["list_sha256"]]
    shares = metrics.get("level") == SHARE
    return Scored(
        name="pseudo masks",
        kind=PSEUDO,
        metrics=metrics,
        read=functools.partial(_read, run) if there else None,
        threshold="score relative to background" if shares else "background score",
        warning=f"{same[0]} was trained on the CAMs of the very images that are scored." if same else "",
    )


def _read(run: Run, image_id: str) -> np.ndarray:
    path = run.layout.pseudo(run.config.dataset.infer_split, image_id)
    return read_label_map(path, image_id, len(run.source.classes))


def _before(run: Run) -> str:
    """The stage that makes what is scored, of the chosen chain."""
    chain = [stage.name for stage in run.registry.refinement(run.config.refinement)]
    return chain[chain.index(EVAL_PSEUDO.name) - 1] if EVAL_PSEUDO.name in chain else "of a random walk"


EVAL_PSEUDO = Stage(
    name="eval_pseudo",
    function=eval_pseudo,
    reads=lambda config: (INFER_SPLIT, EVAL_SPLIT),
    refining=True,
    scored=scored,
)
