"""Stage `eval_cam`: scores of the CAMs on disk, at all background thresholds in one pass."""

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from wsss_jax.data.lists import sha256
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import ConfigError, DataError, RunError
from wsss_jax.evaluation.summary import describe, summarise
from wsss_jax.evaluation.sweep import ThresholdSweep
from wsss_jax.files import write_json
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.stages.context import Run, require

Cam = tuple[np.ndarray, np.ndarray]  # keys int32[K], cam float32[K, H, W]


def eval_cam(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics."""
    config, layout = run.config, run.layout
    settings_file = layout.cams(config.dataset.infer_split) / "settings.json"
    require(settings_file, "CAMs", "infer_cam")
    split, ids = config.dataset.eval_split, run.ids(config.dataset.eval_split)
    sweep, line = new_sweep(run), Progress("eval_cam", len(ids))
    read = functools.partial(_read_pair, run)
    for image_id, ((keys, cam), mask) in zip(
        ids, map_ordered(read, ids, threads=config.loader.threads), strict=True
    ):
        sweep.add(cam, keys, mask, image_id=image_id)
        line.update(sweep.images)
        stop_here("eval_cam writes its result at the end only")
    line.end()
    provenance = {
        **json.loads(settings_file.read_text()),
        "stage": "eval_cam",
        "split": split,
        "list_sha256": sha256(ids),
        "classes": list(run.source.classes),
        "crf": False,
    }
    metrics = summarise(
        sweep,
        config.eval.fixed_threshold,
        provenance=provenance,
        absent_classes=config.eval.absent_classes,
        threshold_from=other_metrics("eval.threshold_from", config.eval.threshold_from),
    )
    write_json(layout.metrics("eval_cam", split), metrics)
    run.say(describe(metrics))


def new_sweep(run: Run) -> ThresholdSweep:
    """An empty sweep over the configured thresholds, and the fixed one."""
    thresholds = {round(t, 6) for t in (*run.config.eval.thresholds, run.config.eval.fixed_threshold)}
    return ThresholdSweep(num_classes=len(run.source.classes), thresholds=sorted(thresholds))


def read_mask(run: Run, image_id: str) -> np.ndarray:
    """The mask of an image to be evaluated; DataError if it has none."""
    mask = run.source.mask(image_id)
    if mask is None:
        raise DataError(
            f"image {image_id!r} of {run.config.dataset.eval_split} has no mask to evaluate against; choose "
            "another --config.dataset.eval_split, or set --config.eval.every_epochs=0 and leave out eval_cam"
        )
    return mask


def read_cam(path: Path, image_id: str, stage: str = "infer_cam") -> Cam:
    """Reads a CAM file; RunError, which names the stage that makes it, if it is missing or damaged."""
    require(path, f"CAMs of image {image_id!r}", stage)
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["keys"], file["cam"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged; delete it and run the stage {stage} again") from error


def _read_pair(run: Run, image_id: str) -> tuple[Cam, np.ndarray]:
    return read_cam(run.layout.cam(run.config.dataset.infer_split, image_id), image_id), read_mask(
        run, image_id
    )


def other_metrics(key: str, path: str) -> dict[str, Any] | None:
    """The metrics of another split, whose best threshold is applied; ConfigError if unreadable.

    Args:
      key: of the configuration, for the message.
      path: its value; '' for none.
    """
    if not path:
        return None
    try:
        return json.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"config.{key}={path!r}: not a metrics file; give the metrics/<stage>_<split>.json of a run"
        ) from error
