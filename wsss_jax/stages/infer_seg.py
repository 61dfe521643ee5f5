"""Stage `infer_seg`: label maps of a split by the segmentation network, and by a dense CRF after it."""

import functools
from typing import Any

import numpy as np

from wsss_jax.data.class_maps import ClassMaps, background_first, write_maps
from wsss_jax.data.images import palette_png
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.errors import RunError
from wsss_jax.files import write_bytes
from wsss_jax.inference.predict import InferenceSettings
from wsss_jax.inference.segment import Segmentation, Segmenter
from wsss_jax.runs.context import SEG_SPLIT, Run, Stage
from wsss_jax.runs.provenance import record_provenance
from wsss_jax.stages.batches import own_batches, write_batches
from wsss_jax.stages.crf import check_backend
from wsss_jax.stages.crf_seg import refine_labels
from wsss_jax.stages.networks import load_variables
from wsss_jax.stages.train_seg import is_path, segmentation_task, segmenter
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import digest, restore, steps
from wsss_jax.training.initial import variable_shapes
from wsss_jax.weights import check_against


def infer_seg(run: Run) -> None:
    """Labels the images of `dataset.seg_split` that are not labelled yet, without and with a CRF.

    Raises:
      RunError: nothing is trained yet, or the folder holds label maps of other weights.
    """
    split, settings, task = run.config.dataset.seg_split, plan_settings(run), segmentation_task(run)
    ids, name = run.ids(split), f"infer_seg {split_name(split)}"
    variables, known = seg_variables(run)
    made = {**provenance(run), "list_sha256": sha256(ids), **known}
    record_provenance(run.layout.segs(split), made, "label maps")
    batches, todo = own_batches(run, ids, settings, functools.partial(run.layout.seg, split))
    if todo:
        run.say(f"{name}: {len(ids)} images")
        segmenter_ = Segmenter(task, run.local_mesh, settings)
        found = segmenter_.segment(variables, run.source, todo)
        rate = write_batches("infer_seg", batches, todo, found, functools.partial(_write, run))
        run.say(f"{name}: {rate:.1f} images/s, {segmenter_.program.compiled} compiled program(s)")
    else:
        run.say(f"{name}: done already")
    if run.config.segmentation.crf:
        refine_labels(run, [image_id for batch in batches for image_id in batch.image_ids], made)


def plan_settings(run: Run) -> InferenceSettings:
    """How images are batched; the scales are the network's own business."""
    settings, loader = run.config.segmentation, run.config.loader
    return InferenceSettings(
        scales=(1.0,),
        flip=False,
        class_filter="all",
        batch_size=settings.infer_batch_size,
        max_buckets=settings.max_buckets,
        workers=loader.workers,
        threads=loader.threads,
    )


def seg_variables(run: Run) -> tuple[Variables, dict[str, Any]]:
    """The weights that `segmentation.checkpoint` names, and what is known of them.

    That is `weights_sha256`, and, where the weights tell it, what they started from and were trained on.

    Raises:
      RunError: nothing is trained yet, or there is no such step.
      CheckpointError: they are damaged or of another network.
    """
    task, choice = segmentation_task(run), run.config.segmentation.checkpoint
    (network,) = task.networks.values()
    if is_path(choice):
        variables = {task.name: load_variables(run, choice, network, complete=True)}
        run.say(f"weights: {choice}")
        return variables, {"weights_sha256": digest(variables)}
    folder = run.layout.checkpoints(task.name)
    saved = steps(folder)
    if not saved or (choice and int(choice) not in saved):
        remedy = f"choose a step of {saved}" if saved else "run the stage train_seg first"
        raise RunError(f"{folder}: there is no checkpoint {choice or 'yet'}; {remedy}")
    restored = restore(folder / (choice or str(saved[-1])))
    for each in restored.networks.values():
        check_against(each, variable_shapes(network), source=f"{folder}/{restored.step}")
    run.say(f"weights: {task.name} of step {restored.step}")
    meta = restored.meta
    known = {"weights_sha256": meta["digest"]["variables"], "start": meta.get("start", "unknown")}
    trained = meta.get("trained_on")
    return restored.networks, known | ({"trained_on": {segmenter(run).title: trained}} if trained else {})


def provenance(run: Run) -> dict[str, Any]:
    """What a score of the label maps says of how they were made, besides the weights."""
    return {
        "method": run.config.method,
        "dataset": run.config.dataset.name,
        "network": run.config.segmentation.network,
        "scales": None,
        "flip": False,
        "crf": False,
        "class_filter": None,
    }


def _write(run: Run, found: Segmentation) -> None:
    split = run.config.dataset.seg_split
    class_ids = background_first(np.arange(len(found.logits) - 1))
    write_maps(run.layout.seg_scores(split, found.image_id), ClassMaps(class_ids, found.logits))
    # Last, for this is the file that says that it is done.
    write_bytes(run.layout.seg(split, found.image_id), palette_png(found.labels))


def check(run: Run) -> None:
    """ConfigError if there is no such network, or pydensecrf is chosen and not installed."""
    segmenter(run)
    if run.config.segmentation.crf:
        check_backend(run)


INFER_SEG = Stage(
    name="infer_seg",
    function=infer_seg,
    reads=lambda config: (SEG_SPLIT,),
    weights=lambda run: {"segmentation.checkpoint": run.config.segmentation.checkpoint},
    check=check,
    all_hosts=True,
)
