"""Stage `eval_seg`: scores of the segmentation network's label maps, and of the masks it was trained on."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from wsss_jax.data.images import read_mask
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.data.pool import map_ordered
from wsss_jax.evaluation import (
    ConfusionMatrix,
    describe,
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    summarise_labels,
)
from wsss_jax.files import write_json
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.runs.checks import check_masks
from wsss_jax.runs.context import SEG_SPLIT, Run, Stage, require
from wsss_jax.runs.provenance import FILE, read_provenance
from wsss_jax.runs.scored import SEGMENTED, Scored
from wsss_jax.stages.evaluate import read_truth
from wsss_jax.stages.masks import TRUE, training_masks
from wsss_jax.stages.train_seg import is_path, segmentation_task

_STAGE = "eval_seg"


def eval_seg(run: Run) -> None:
    """Evaluates the label maps of `dataset.seg_split`, without and with a CRF, and writes their metrics.

    Raises:
      RunError: there are no label maps.
      DataError: one is missing or damaged, or an image has no mask.
    """
    masks = _training_score(run)
    for crf in (False, True) if run.config.segmentation.crf else (False,):
        _evaluate(run, crf, masks)


def _evaluate(run: Run, crf: bool, masks: dict[str, Any] | None) -> None:
    split = run.config.dataset.seg_split
    folder, stage = run.layout.segs(split, crf), f"{_STAGE}_crf" if crf else _STAGE
    require(folder / FILE, f"label maps of {split}{' after a CRF' if crf else ''}", "infer_seg")
    ids = run.ids(split)
    confusion = ConfusionMatrix(num_classes=len(run.source.classes))
    for image_id, labels, truth in _pairs(run, stage, ids, functools.partial(_read, run, split, crf)):
        confusion.add(labels, truth, image_id=image_id)
    made = {
        **read_provenance(folder),
        "stage": stage,
        "split": split,
        "list_sha256": sha256(ids),
        "classes": list(run.source.classes),
        **_further(confusion.counts),
        **({"masks": masks} if masks else {}),
    }
    absent = run.config.segmentation.absent_classes
    metrics = summarise_labels(confusion, provenance=made, absent_classes=absent)
    write_json(run.layout.metrics(stage, split), metrics)
    run.say(describe(metrics))
    run.say(f"{stage} {split_name(split)}: {_text(metrics)}")


def _further(counts: np.ndarray) -> dict[str, float]:
    """What DeepLab-v2's program reports besides the mean of IoU, in percent."""
    return {
        "pixel_accuracy": 100 * pixel_accuracy(counts),
        "mean_accuracy": 100 * mean_accuracy(counts),
        "frequency_weighted_iou": 100 * frequency_weighted_iou(counts),
    }


def _text(metrics: dict[str, Any]) -> str:
    text = (
        f"pixel accuracy {metrics['pixel_accuracy']:.2f}, mean accuracy {metrics['mean_accuracy']:.2f}, "
        f"frequency-weighted IoU {metrics['frequency_weighted_iou']:.2f}"
    )
    masks = metrics.get("masks")
    if masks:
        where = f"{masks['images']} images of {masks['split']}"
        text += f"; the masks trained on: mIoU {masks['miou']:.2f} on {where}"
    return text


def _training_score(run: Run) -> dict[str, Any] | None:
    """The score of the masks that the network was trained on, of the images of which the truth is known; None
    where there are none, or other weights are tested."""
    note = run.layout.checkpoints(segmentation_task(run).name) / FILE
    checkpoint, masks = run.config.segmentation.checkpoint, run.config.masks
    if is_path(checkpoint) or masks == TRUE or not note.exists():
        return None
    read, ids = training_masks(run)
    known = [image_id for image_id in ids if run.source.has_mask(image_id)]
    if not known:
        return None
    confusion = ConfusionMatrix(num_classes=len(run.source.classes), void_prediction="background")
    for image_id, labels, truth in _pairs(run, "eval_seg: masks", known, read):
        confusion.add(labels, truth, image_id=image_id)
    split = run.config.dataset.train_split if run.config.masks else run.config.dataset.infer_split
    miou = float(100 * mean_iou(confusion.counts, run.config.segmentation.absent_classes))
    return {"split": split_name(split), "images": len(known), "list_sha256": sha256(known), "miou": miou}


def _pairs(
    run: Run, line: str, ids: Sequence[str], read: Callable[[str], np.ndarray]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each image, its label map and its truth, read ahead in threads; raises Interrupted where a signal has
    asked to stop."""
    progress = Progress(line, len(ids))

    def pair(image_id: str) -> tuple[np.ndarray, np.ndarray]:
        return read(image_id), read_truth(run, image_id)

    found = map_ordered(pair, ids, threads=run.config.loader.threads)
    for done, (image_id, (labels, truth)) in enumerate(zip(ids, found, strict=True), start=1):
        yield image_id, labels, truth
        progress.update(done)
        stop_here(f"{line} writes its result at the end only")
    progress.end()


def scored(run: Run, name: str, metrics: dict[str, Any]) -> Scored | None:
    """The label maps, without or with a CRF."""
    crf = name == f"{_STAGE}_crf"
    if name not in (_STAGE, f"{_STAGE}_crf"):
        return None
    split = metrics["split"]
    there = run.layout.segs(split, crf).is_dir()
    title = "segmentation network" + (", CRF" if crf else "")
    read = functools.partial(_read, run, split, crf) if there else None
    return Scored(title, SEGMENTED, metrics, read, order=float(crf))


def _read(run: Run, split: str, crf: bool, image_id: str) -> np.ndarray:
    return read_mask(run.layout.seg(split, image_id, crf), image_id, len(run.source.classes))


def check(run: Run) -> None:
    """DataError unless all images that are scored have masks."""
    check_masks(run, run.ids(run.config.dataset.seg_split), SEG_SPLIT)


EVAL_SEG = Stage(
    name=_STAGE, function=eval_seg, reads=lambda config: (SEG_SPLIT,), check=check, scored=scored
)
