"""Stage `eval_pseudo`: scores of the pseudo masks, at all shares against background in one pass."""

import functools
import json

from wsss_jax.data.lists import sha256
from wsss_jax.data.pool import map_ordered
from wsss_jax.evaluation.summary import describe, summarise
from wsss_jax.evaluation.sweep import ThresholdSweep
from wsss_jax.files import write_json
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.stages.context import Run, require
from wsss_jax.stages.evaluate import other_metrics, read_mask
from wsss_jax.stages.random_walk import read_shares


def eval_pseudo(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics.

    The score at the fixed threshold is that of the masks on disk.
    """
    config, layout, walk = run.config, run.layout, run.config.walk
    settings_file = layout.walked(config.dataset.infer_split) / "settings.json"
    require(settings_file, "walked scores", "random_walk")
    split, ids = config.dataset.eval_split, run.ids(config.dataset.eval_split)
    thresholds = sorted({round(t, 6) for t in (*walk.thresholds, walk.fixed_threshold)})
    sweep = ThresholdSweep(num_classes=len(run.source.classes), thresholds=thresholds)
    line = Progress("eval_pseudo", len(ids))
    scores = map_ordered(functools.partial(read_shares, run), ids, threads=config.loader.threads)
    for image_id, (keys, shares) in zip(ids, scores, strict=True):
        sweep.add(shares, keys, read_mask(run, image_id), image_id=image_id)
        line.update(sweep.images)
        stop_here("eval_pseudo writes its result at the end only")
    line.end()
    provenance = {
        **json.loads(settings_file.read_text()),
        "stage": "eval_pseudo",
        "split": split,
        "list_sha256": sha256(ids),
        "classes": list(run.source.classes),
        "crf": False,
    }
    metrics = summarise(
        sweep,
        walk.fixed_threshold,
        provenance=provenance,
        absent_classes=config.eval.absent_classes,
        threshold_from=other_metrics("walk.threshold_from", walk.threshold_from),
    )
    write_json(layout.metrics("eval_pseudo", split), metrics)
    run.say(describe(metrics))
