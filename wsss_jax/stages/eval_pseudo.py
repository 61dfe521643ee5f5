"""Stage `eval_pseudo`: scores of the pseudo masks, at all shares against background in one pass."""

from wsss_jax.runs.context import Run, require
from wsss_jax.stages.evaluate import sweep_split
from wsss_jax.systems.affinity.random_walk import read_shares


def eval_pseudo(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics.

    The score at the fixed threshold is that of the masks on disk.
    """
    settings_file = run.layout.walked(run.config.dataset.infer_split) / "settings.json"
    require(settings_file, "walked scores", "random_walk")
    sweep_split(run, "eval_pseudo", "walk", settings_file, read_shares)
