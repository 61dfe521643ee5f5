"""A dense CRF on a segmentation network's probabilities, the second part of stage `infer_seg`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsss_jax.data.images import palette_png
from wsss_jax.data.lists import split_name
from wsss_jax.errors import RunError
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.refinement.jobs import LogitJobs, Refined, Refused
from wsss_jax.refinement.stream import CrfStream
from wsss_jax.runs.context import Run
from wsss_jax.runs.provenance import record_provenance
from wsss_jax.stages.batches import write_results
from wsss_jax.stages.crf import buckets_of, stream_settings
from wsss_jax.stages.refused import refusal, without_refused
from wsss_jax.stages.train_seg import recipe


def refine_labels(run: Run, own: Sequence[str], made: Mapping[str, Any]) -> None:
    """Draws the label maps of `dataset.seg_split` after a CRF that are missing.

    Args:
      run: whose logits are on disk.
      own: ids of the images that this host has labelled.
      made: what they were made with.

    Raises:
      RunError: the folder holds label maps of other settings, or some logits cannot be used (at the end, when
        all others are done).
    """
    split, asked = run.config.dataset.seg_split, recipe(run)
    as_network = run.config.segmentation.crf_image == "network"
    crf = asked.crf.describe() + (", of the image as the authors' program has it" if as_network else "")
    record_provenance(run.layout.segs(split, crf=True), {**made, "crf": crf}, "label maps")
    todo = [image_id for image_id in own if not is_whole(run.layout.seg(split, image_id, crf=True))]
    name = f"infer_seg {split_name(split)}"
    if not todo:
        return run.say(f"{name}: CRF done already")
    stream = CrfStream(stream_settings(run.config, asked.crf), run.local_mesh)
    run.say(f"{name}: CRF, {crf}, {stream.backend}")
    load = LogitJobs(
        run.source.image,
        functools.partial(run.layout.seg_scores, split),
        asked.crf_image if as_network else _unchanged,
        len(run.source.classes),
    )
    refused: list[Refused] = []
    buckets = buckets_of(run, own) if stream.backend == "jax" else []
    results = without_refused(
        stream.refine(load, todo, buckets), refused, lambda text: run.say(f"crf: {text}")
    )
    write_results("crf", len(own), len(own) - len(todo), results, functools.partial(_write, run))
    if refused:
        raise RunError(refusal("infer_seg", refused, len(own)))


def _write(run: Run, result: Refined) -> None:
    labels = result.maps[0].planes.argmax(axis=0).astype(np.uint8)
    path = run.layout.seg(run.config.dataset.seg_split, result.image_id, crf=True)
    write_bytes(path, palette_png(labels))


def _unchanged(image: np.ndarray) -> np.ndarray:
    return image
