"""Stage `infer_cam` of InferCam: its maps of a split, one file per picture."""

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
from wsss_jax.systems.infer_cam.base_classifier import base_run, plain_maps, require_plain_maps
from wsss_jax.systems.infer_cam.crops import Parts
from wsss_jax.systems.infer_cam.eraser import Eraser, PartPlan, Response
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.systems.infer_cam.split import plan_parts


def infer_response(run: Run) -> None:
    """Computes the maps that are not there yet, picture by picture.

    Raises:
      RunError: the plain maps are not there, or maps of other weights or settings are.
    """
    ids, base = run.ids(run.config.dataset.infer_split), base_run(run)
    require_plain_maps(base)
    variables, weights = result_variables(base)
    split, own = run.config.dataset.infer_split, {"infer_cam": _provenance(run)}
    record_provenance(base.layout.cams(split), cam_provenance(base, ids, weights), "CAMs")
    record_provenance(run.layout.cams(split), {**cam_provenance(run, ids, weights), **own}, "CAMs")
    every = plan_parts(run, base, ids)
    plans = every[jax.process_index() :: jax.process_count()]
    todo = [plan for plan in plans if not is_whole(_path(run, plan))]
    name = f"infer_cam {split_name(run.config.dataset.infer_split)}"
    count = sum(len(plan.different) for plan in plans)
    run.say(f"{name}: {len(plans)} images, {count} different parts, scales {tuple(run.config.cam.scales)}")
    if not todo:
        return run.say(f"{name}: done already")
    eraser, tally = _eraser(run, every), _Tally()
    parts = Parts(run.source, run.config.infer_cam.jpeg_quality, run.config.infer_cam.split_path)
    responses = eraser.respond(variables, parts, todo, lambda image_id: plain_maps(base, image_id).planes)
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


def _eraser(run: Run, plans: Sequence[PartPlan]) -> Eraser:
    method = run.method
    assert isinstance(method, InferCam)
    settings = dataclasses.replace(
        inference_settings(run.config), max_buckets=run.config.infer_cam.max_buckets
    )
    return Eraser(method, run.local_mesh, settings, method.erasing, plans)


def _path(run: Run, plan: PartPlan) -> Path:
    return run.layout.cam(run.config.dataset.infer_split, plan.image_id)


class _Tally:
    """Counts rounds as results pass by."""

    def __init__(self) -> None:
        self._parts = self._rounds = 0

    def of(self, responses: Iterable[Sequence[Response]]) -> Iterator[Sequence[Response]]:
        for several in responses:
            for response in several:
                self._parts += len(response.erased)
                self._rounds += sum(map(len, response.erased.values()))
            yield several

    def text(self) -> str:
        return f"{self._rounds / max(self._parts, 1):.1f} rounds a part"


INFER_RESPONSE = dataclasses.replace(INFER_CAM, function=infer_response)
