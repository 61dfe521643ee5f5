"""Stage `infer_cam` of InferCam: its maps of a split, one file per image."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from wsss_jax.data.lists import split_name
from wsss_jax.files import is_whole
from wsss_jax.runs.context import Run
from wsss_jax.runs.provenance import record_provenance
from wsss_jax.stages.batches import write_results
from wsss_jax.stages.infer import INFER_CAM, cam_provenance, inference_settings, write_cam
from wsss_jax.stages.networks import result_variables
from wsss_jax.systems.infer_cam.base_classifier import base_run, initial_cams, require_initial_cams
from wsss_jax.systems.infer_cam.crops import Crops
from wsss_jax.systems.infer_cam.eraser import CropPlan, Eraser, Response
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.systems.infer_cam.split import plan_crops


def infer_response(run: Run) -> None:
    """Computes the maps that are not there yet, image by image.

    Raises:
      RunError: the initial CAMs are not there, or maps of other weights or settings are.
    """
    ids, base = run.ids(run.config.dataset.infer_split), base_run(run)
    require_initial_cams(base)
    variables, weights = result_variables(base)
    split, own = run.config.dataset.infer_split, {"infer_cam": _provenance(run)}
    record_provenance(base.layout.cams(split), cam_provenance(base, ids, weights), "CAMs")
    record_provenance(run.layout.cams(split), {**cam_provenance(run, ids, weights), **own}, "CAMs")
    every = plan_crops(run, base, ids)
    plans = every[jax.process_index() :: jax.process_count()]
    todo = [plan for plan in plans if not is_whole(_path(run, plan))]
    name = f"infer_cam {split_name(run.config.dataset.infer_split)}"
    count = sum(len(plan.different) for plan in plans)
    run.say(f"{name}: {len(plans)} images, {count} different crops, scales {tuple(run.config.cam.scales)}")
    if not todo:
        return run.say(f"{name}: done already")
    eraser, tally = _eraser(run, every), _Tally()
    crops = Crops(run.source, run.config.infer_cam.jpeg_quality, run.config.infer_cam.split_path)
    responses = eraser.respond(variables, crops, todo, lambda image_id: initial_cams(base, image_id).planes)
    write = functools.partial(write_cam, run)
    rate = write_results(
        "infer_cam",
        len(plans),
        len(plans) - len(todo),
        tally.of(responses),
        lambda response: write(response.image_id, response.maps),
        tally.text,
    )
    programs = f"{eraser.program.compiled} compiled program(s)"
    run.say(f"{name}: {rate:.1f} images/s, {tally.text()}, {programs}")


def _provenance(run: Run) -> dict[str, Any]:
    """What of section `infer_cam` the maps depend on, as JSON gives it back."""
    settings = run.config.infer_cam.to_dict()
    del settings["max_buckets"]
    return {**settings, "margins": list(settings["margins"])}


def _eraser(run: Run, plans: Sequence[CropPlan]) -> Eraser:
    method = run.method
    assert isinstance(method, InferCam)
    settings = dataclasses.replace(
        inference_settings(run.config), max_buckets=run.config.infer_cam.max_buckets
    )
    return Eraser(method, run.local_mesh, settings, method.erasing, plans)


def _path(run: Run, plan: CropPlan) -> Path:
    return run.layout.cam(run.config.dataset.infer_split, plan.image_id)


class _Tally:
    """Counts iterations as results pass by."""

    def __init__(self) -> None:
        self._crops = self._rounds = 0

    def of(self, responses: Iterable[Sequence[Response]]) -> Iterator[Sequence[Response]]:
        for several in responses:
            for response in several:
                self._crops += len(response.erased)
                self._rounds += sum(map(len, response.erased.values()))
            yield several

    def text(self) -> str:
        return f"{self._rounds / max(self._crops, 1):.1f} iterations a crop"


INFER_RESPONSE = dataclasses.replace(INFER_CAM, function=infer_response)
