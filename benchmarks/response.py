"""InferCam: a queue of crops in padded batches against one crop and one input at a time.

Both sides read, cut and rescale the images and start from the same initial CAMs, which neither counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.images import Shrunk, open_images
from benchmarks.networks import method_of, published_config, random_variables
from benchmarks.plain_response import PlainResponse
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved, seconds_of
from wsss_jax.data.source import Source
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.runs.context import given_classes
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.infer import inference_settings
from wsss_jax.systems.infer_cam.crops import Box, Crops, split_boxes
from wsss_jax.systems.infer_cam.eraser import CropPlan, Eraser, Response
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.task import Variables

_BUCKETS = 4  # for few images; a real list has the configured number
_PLAIN_PICTURES = 1  # each of them compiles a program per crop and scale


@dataclass(frozen=True)
class _Job:
    """What both sides are given."""

    method: InferCam
    variables: Variables
    source: Source
    settings: InferenceSettings
    plans: list[CropPlan]
    initial_cams: dict[str, np.ndarray]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures both sides, compiled before, and counts their programs."""
    settings = settings or Settings()
    with open_images(settings) as (images, ids):
        job = _job(settings, Shrunk(images, settings.side), ids)
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
        CropPlan(
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
    note = f"of crops and iterations; width {settings.width:g}, {len(settings.scales)} scale(s) with flips"
    return [
        times["queue"].per_second(
            computed,
            f"{name}, queue of crops",
            unit,
            ratio=(computed / times["queue"].median) / (few / times["plain"].median),
            versus="plain loop",
            note=f"{note}; {count} images, {count / times['queue'].median:.2g} images/s; "
            f"largest difference of maps {difference:.0e}",
        ),
        times["plain"].per_second(
            few, f"{name}, plain loop", unit, note=f"{note}; {len(plain.plans)} image(s)"
        ),
        Row(
            name="InferCam, iterations of this list",
            value=computed,
            unit="Mpixel",
            ratio=plainly / computed if computed else None,
            versus="plain loop" if computed else "",
            note="counted; same crops once, and no first iteration of whole images",
        ),
        Row(
            name="InferCam, programs for each image",
            value=programs / count,
            unit="programs",
            ratio=(plain.loop.programs / len(plain.plans)) / (programs / count),
            versus="plain loop",
            note=f"{count} images in {first:.0f} s, compilation included",
        ),
    ]


def _rounds_of(plan: CropPlan, erased: Mapping[Box, Sequence[float]], *, shared: bool) -> float:
    """Megapixels that an image's iterations look at.

    Args:
      plan: its crops.
      erased: of each crop, one number for each iteration.
      shared: whether the same crops count once, and without the iteration that the initial CAMs are.
    """
    boxes = plan.different if shared else plan.boxes
    iterations = {box: len(erased[box]) - (shared and box == plan.whole) for box in plan.different}
    return sum(box.size[0] * box.size[1] * iterations[box] for box in boxes) / 1e6


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
            job.variables, Crops(job.source), job.plans, job.initial_cams.__getitem__
        ):
            self.found.update({response.image_id: response for response in several})


class _Plain:
    """The plain loop over the first images; a call computes their maps."""

    def __init__(self, job: _Job) -> None:
        self.plans = sorted(job.plans, key=lambda plan: plan.image_id)[:_PLAIN_PICTURES]
        self.loop = PlainResponse(job.method, job.variables, job.settings.scales)
        self.found: dict[str, np.ndarray] = {}
        self._source = job.source

    def __call__(self) -> None:
        for plan in self.plans:
            self.found[plan.image_id], _ = self.loop(self._source.image(plan.image_id), plan)
