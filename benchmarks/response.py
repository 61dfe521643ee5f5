"""InferCam: a queue of parts in padded batches against one part and one input at a time.

Both sides read, cut and rescale the pictures and start from the same plain maps, which neither counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.networks import method_of, published_config, random_variables
from benchmarks.pictures import Shrunk, open_pictures
from benchmarks.plain_response import PlainResponse
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved, seconds_of
from wsss_jax.data.source import Source
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.runs.context import given_classes
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.infer import inference_settings
from wsss_jax.systems.infer_cam.crops import Box, Parts, split_boxes
from wsss_jax.systems.infer_cam.eraser import Eraser, PartPlan, Response
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.task import Variables

_BUCKETS = 4  # for few pictures; a real list has the configured number
_PLAIN_PICTURES = 1  # each of them compiles a program per part and scale


@dataclass(frozen=True)
class _Job:
    """What both sides are given."""

    method: InferCam
    variables: Variables
    source: Source
    settings: InferenceSettings
    plans: list[PartPlan]
    plain_maps: dict[str, np.ndarray]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures both sides, compiled before, and counts their programs."""
    settings = settings or Settings()
    with open_pictures(settings) as (pictures, ids):
        job = _job(settings, Shrunk(pictures, settings.side), ids)
        queue, plain = _Queue(job), _Plain(job)
        first = seconds_of(queue)
        times = interleaved({"queue": queue, "plain": plain}, settings.repeats)
        return _rows(settings, job, queue, plain, first, times)


def _job(settings: Settings, source: Source, ids: tuple[str, ...]) -> _Job:
    method = method_of(settings, "infer_cam")
    assert isinstance(method, InferCam)
    variables = random_variables(method)
    config = published_config(settings, "infer_cam")
    config.cam.batch_size = settings.batch_size * jax.local_device_count()
    config.cam.max_buckets = _BUCKETS
    chosen, given = inference_settings(config), given_classes(source, ids)
    predictor = Predictor(method, data_mesh(jax.local_devices()), chosen)
    batches = plan_batches(source, ids, chosen)
    found = [p for batch in predictor.predict(variables, source, batches, given) for p in batch]
    plans = [
        PartPlan(
            p.image_id, source.size(p.image_id), given[p.image_id], split_boxes(p.maps.planes, method.split)
        )
        for p in found
    ]
    return _Job(method, variables, source, chosen, plans, {p.image_id: p.maps.planes for p in found})


def _rows(
    settings: Settings, job: _Job, queue: "_Queue", plain: "_Plain", first: float, times: dict[str, Times]
) -> list[Row]:
    found = queue.found
    computed = sum(_rounds_of(plan, found[plan.image_id].erased, shared=True) for plan in job.plans)
    plainly = sum(_rounds_of(plan, found[plan.image_id].erased, shared=False) for plan in job.plans)
    few = sum(_rounds_of(plan, found[plan.image_id].erased, shared=False) for plan in plain.plans)
    difference = max(float(np.abs(found[i].maps.planes - cam).max()) for i, cam in plain.found.items())
    programs, count = queue.eraser.program.compiled, len(job.plans)
    name, unit = "InferCam, compiled before", "Mpixel/s"
    note = f"of parts and rounds; width {settings.width:g}, {len(settings.scales)} scale(s) with flips"
    return [
        times["queue"].per_second(
            computed,
            f"{name}, queue of parts",
            unit,
            ratio=(computed / times["queue"].median) / (few / times["plain"].median),
            versus="plain loop",
            note=f"{note}; {count} pictures, {count / times['queue'].median:.2g} images/s; "
            f"largest difference of maps {difference:.0e}",
        ),
        times["plain"].per_second(
            few, f"{name}, plain loop", unit, note=f"{note}; {len(plain.plans)} picture(s)"
        ),
        Row(
            name="InferCam, rounds of this list",
            value=computed,
            unit="Mpixel",
            ratio=plainly / computed if computed else None,
            versus="plain loop" if computed else "",
            note="counted; same parts once, and no first round of whole pictures",
        ),
        Row(
            name="InferCam, programs for each picture",
            value=programs / count,
            unit="programs",
            ratio=(plain.loop.programs / len(plain.plans)) / (programs / count),
            versus="plain loop",
            note=f"{count} pictures in {first:.0f} s, compilation included",
        ),
    ]


def _rounds_of(plan: PartPlan, erased: Mapping[Box, Sequence[float]], *, shared: bool) -> float:
    """Megapixels that a picture's rounds look at.

    Args:
      plan: its parts.
      erased: of each part, one number for each round.
      shared: whether the same parts count once, and without the round that the plain maps are.
    """
    boxes = plan.different if shared else plan.boxes
    rounds = {box: len(erased[box]) - (shared and box == plan.whole) for box in plan.different}
    return sum(box.size[0] * box.size[1] * rounds[box] for box in boxes) / 1e6


class _Queue:
    """The stage's pipeline over the whole list; a call computes all maps."""

    def __init__(self, job: _Job) -> None:
        mesh = data_mesh(jax.local_devices())
        self.eraser = Eraser(job.method, mesh, job.settings, job.method.erasing, job.plans)
        self.found: dict[str, Response] = {}
        self._job = job

    def __call__(self) -> None:
        job = self._job
        for several in self.eraser.respond(
            job.variables, Parts(job.source), job.plans, job.plain_maps.__getitem__
        ):
            self.found.update({response.image_id: response for response in several})


class _Plain:
    """The plain loop over the first pictures; a call computes their maps."""

    def __init__(self, job: _Job) -> None:
        self.plans = sorted(job.plans, key=lambda plan: plan.image_id)[:_PLAIN_PICTURES]
        self.loop = PlainResponse(job.method, job.variables, job.settings.scales)
        self.found: dict[str, np.ndarray] = {}
        self._source = job.source

    def __call__(self) -> None:
        for plan in self.plans:
            self.found[plan.image_id], _ = self.loop(self._source.image(plan.image_id), plan)
