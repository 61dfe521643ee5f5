"""Stage `eval_cam`: scores of the CAMs on disk, at all background thresholds in one pass."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsss_jax.config import value_of
from wsss_jax.data.class_maps import ClassMaps, read_maps
from wsss_jax.data.lists import sha256
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import ConfigError, DataError, RunError
from wsss_jax.evaluation import image_score
from wsss_jax.evaluation.summary import describe, summarise
from wsss_jax.evaluation.sweep import ThresholdSweep
from wsss_jax.files import read_json, write_json
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.report import GalleryCam
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, Run, Stage, require_cams
from wsss_jax.runs.provenance import read_provenance
from wsss_jax.runs.scored import OWN, Scored

Found = TypeVar("Found")
Size = tuple[int, ...]  # (H, W)


def eval_cam(run: Run) -> None:
    """Evaluates `dataset.eval_split`, which must lie within `dataset.infer_split`, and writes its metrics."""
    sweep_split(run, "eval_cam", "eval", require_cams(run), read_cams)


def sweep_split(
    run: Run, stage: str, section: str, settings_file: Path, read: Callable[[Run, str, Size], ClassMaps]
) -> None:
    """Scores maps at all background thresholds in one pass over `dataset.eval_split`, and writes the metrics.

    Args:
      run: whose maps.
      stage: the metrics' name.
      section: of the configuration, with `thresholds`, `fixed_threshold` and `threshold_from`.
      settings_file: what the maps were made with.
      read: gives the maps of an image of a size; called from several threads.
    """
    sweep, settings = new_sweep(run, section), value_of(run.config, section)
    for image_id, maps, mask in with_masks(run, stage, read):
        sweep.add(maps, mask, image_id=image_id)
    metrics = summarise(
        sweep,
        settings.fixed_threshold,
        provenance={**provenance(run, stage, settings_file), "crf": False},
        absent_classes=run.config.eval.absent_classes,
        threshold_from=other_metrics(f"{section}.threshold_from", settings.threshold_from),
    )
    write_metrics(run, stage, metrics)


def with_masks(
    run: Run, stage: str, read: Callable[[Run, str, Size], Found]
) -> Iterator[tuple[str, Found, np.ndarray]]:
    """Each image of `dataset.eval_split`, what `read` gives of it, and its mask uint8[H, W].

    Reads ahead in threads, shows progress, and raises Interrupted where a signal has asked to stop.
    """
    ids = run.ids(run.config.dataset.eval_split)
    line = Progress(stage, len(ids))

    def pair(image_id: str) -> tuple[Found, np.ndarray]:
        mask = read_mask(run, image_id)
        return read(run, image_id, mask.shape), mask

    pairs = map_ordered(pair, ids, threads=run.config.loader.threads)
    for done, (image_id, (found, mask)) in enumerate(zip(ids, pairs, strict=True), start=1):
        yield image_id, found, mask
        line.update(done)
        stop_here(f"{stage} writes its result at the end only")
    line.end()


def provenance(run: Run, stage: str, settings_file: Path) -> dict[str, Any]:
    """What was evaluated: the settings that the results were made with, the images and the classes."""
    split = run.config.dataset.eval_split
    return {
        **read_provenance(settings_file.parent),
        "stage": stage,
        "split": split,
        "list_sha256": sha256(run.ids(split)),
        "classes": list(run.source.classes),
    }


def write_metrics(run: Run, stage: str, metrics: dict[str, Any]) -> None:
    """Writes a stage's metrics and says them."""
    write_json(run.layout.metrics(stage, run.config.dataset.eval_split), metrics)
    run.say(describe(metrics))


def new_sweep(run: Run, section: str = "eval") -> ThresholdSweep:
    """An empty sweep over the thresholds of a section of the configuration, and its fixed one."""
    settings = value_of(run.config, section)
    thresholds = {round(t, 6) for t in (*settings.thresholds, settings.fixed_threshold)}
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


def read_truth(run: Run, image_id: str) -> np.ndarray:
    """The mask of an image whose label map is scored; DataError if it has none."""
    mask = run.source.mask(image_id)
    if mask is None:
        raise DataError(f"image {image_id!r} has no mask to evaluate against; choose another split")
    return mask


def read_cams(run: Run, image_id: str, size: Size) -> ClassMaps:
    """The CAMs of an image of a size; DataError if they are missing or cannot be used."""
    path = run.layout.cam(run.config.dataset.infer_split, image_id)
    return read_maps(path, image_id, size, num_classes=len(run.source.classes), stage="infer_cam")


def other_metrics(key: str, path: str) -> dict[str, Any] | None:
    """The metrics of another split, whose best threshold is applied; ConfigError if unreadable.

    Args:
      key: of the configuration, for the message.
      path: its value; '' for none.
    """
    if not path:
        return None
    remedy = f"config.{key} is to name the metrics/<stage>_<split>.json of a run"
    try:
        return read_json(Path(path).expanduser(), remedy, by_hand=True)
    except RunError as error:
        raise ConfigError(str(error)) from error


def scored(run: Run, name: str, metrics: dict[str, Any]) -> Scored:
    """The CAMs, which another system than the run's has made where these are another run's."""
    title = run.registry.system(metrics["method"]).title
    there = run.layout.cams(run.config.dataset.infer_split).is_dir()
    return Scored(title, OWN, metrics, functools.partial(_shown, run, metrics) if there else None)


def _shown(run: Run, metrics: dict[str, Any], image_id: str) -> GalleryCam:
    """A CAM and its score at the fixed threshold."""
    mask = read_mask(run, image_id)
    maps = read_cams(run, image_id, mask.shape)
    score = image_score(
        maps,
        mask,
        num_classes=len(run.source.classes),
        threshold=metrics["fixed"]["threshold"],
        image_id=image_id,
    )
    return GalleryCam(maps=maps, score=score)


EVAL_CAM = Stage(
    name="eval_cam", function=eval_cam, reads=lambda config: (INFER_SPLIT, EVAL_SPLIT), scored=scored
)
