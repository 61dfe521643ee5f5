"""CAM inference at several scales with flips: padded buckets against a program per size and scale.

Both sides read, rescale and return the pictures; the padded side is the pipeline of the stage `infer_cam`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.networks import method_of, published_config, random_variables
from benchmarks.pictures import Shrunk, Size, draw_sizes, open_pictures
from benchmarks.plain import PlainLoop
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved, seconds_of
from wsss_jax.data.source import Source
from wsss_jax.inference.buckets import plan_buckets, smallest_bucket
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.method import Method, Variables
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.context import given_classes
from wsss_jax.stages.infer import inference_settings

_BUCKETS = 2  # for few pictures; a real list has the configured number
_PLAIN_PICTURES = 2  # each of them compiles a program per scale
_LIST_LENGTH = 10582  # pictures in VOC's train_aug


@dataclass(frozen=True)
class _Job:
    """What both sides are given."""

    source: Source
    ids: tuple[str, ...]
    classes: Mapping[str, tuple[int, ...]]
    settings: InferenceSettings

    @property
    def sizes(self) -> list[Size]:
        """Of the pictures."""
        return [self.source.size(image_id) for image_id in self.ids]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures both sides and counts programs and padding, also for a list as long as VOC's."""
    settings = settings or Settings()
    with open_pictures(settings) as (pictures, ids):
        source = Shrunk(pictures, settings.side)
        job = _Job(source, ids, given_classes(source, ids), _inference_settings(settings))
        return (
            _timed_rows(settings, job)
            + plan_rows("this list", job.sizes, job.settings)
            + _list_rows(settings)
        )


def plan_rows(what: str, sizes: Sequence[Size], settings: InferenceSettings) -> list[Row]:
    """Number of programs for a list of pictures, and how much of what they compute is padding."""
    buckets = plan_buckets(sizes, settings.max_buckets)
    chosen = [smallest_bucket(size, buckets) for size in sizes]
    plain = len(set(sizes)) * len(settings.scales)
    padded = sum(h * w for h, w in chosen) / sum(h * w for h, w in sizes)
    batches = {bucket: -(-chosen.count(bucket) // settings.batch_size) for bucket in set(chosen)}
    computed = sum(n * settings.batch_size * h * w for (h, w), n in batches.items())
    empty = computed / sum(h * w for h, w in chosen)
    return [
        Row(
            name=f"CAM inference, programs for {what}",
            value=len(set(chosen)),
            unit="programs",
            ratio=plain / len(set(chosen)),
            versus="plain loop",
            note=f"{len(sizes):,} pictures of {len(set(sizes)):,} sizes; plain: {plain:,} programs",
        ),
        Row(
            name=f"CAM inference, padded area of {what}",
            value=100 * (padded - 1),
            unit="%",
            note=f"and {100 * (empty - 1):.1f} % for empty rows of batches of {settings.batch_size}",
        ),
    ]


def _list_rows(settings: Settings) -> list[Row]:
    """The plan for a whole list at the configured number of buckets; nothing is computed."""
    configured = inference_settings(published_config(settings, "cam"))
    return plan_rows("a list as long as VOC's", draw_sizes(_LIST_LENGTH), configured)


def _timed_rows(settings: Settings, job: _Job) -> list[Row]:
    method = method_of(settings, "cam")
    padded, plain = (
        _Padded(method, random_variables(method), job),
        _Plain(method, random_variables(method), job),
    )
    first = seconds_of(padded)
    times = interleaved({"padded": padded, "plain": plain}, settings.repeats)
    difference = max(float(np.abs(padded.cams[i] - plain.cams[i]).max()) for i in plain.ids)
    note = f"width {settings.width:g}, {len(settings.scales)} scale(s) with flips"
    warm = _warm_rows(
        times, len(job.ids), len(plain.ids), note, f"largest difference of maps {difference:.0e}"
    )
    return warm + _cold_rows(times, first, job, padded.predictor.program.compiled, plain)


def _warm_rows(times: Mapping[str, Times], images: int, few: int, note: str, difference: str) -> list[Row]:
    name, unit = "CAM inference, compiled before", "images/s"
    ratio = (images / times["padded"].median) / (few / times["plain"].median)
    compared = {"ratio": ratio, "versus": "plain loop", "note": f"{note}; {images} pictures; {difference}"}
    return [
        times["padded"].per_second(images, f"{name}, padded", unit, **compared),
        times["plain"].per_second(few, f"{name}, plain loop", unit, note=f"{note}; {few} pictures"),
    ]


def _cold_rows(
    times: Mapping[str, Times], first: float, job: _Job, compiled: int, plain: "_Plain"
) -> list[Row]:
    """With compilation; the plain loop's is extrapolated from the programs of its few pictures."""
    name, unit, images = "CAM inference, with compilation", "images/s", len(job.ids)
    each, measured = float(np.mean(plain.loop.compile_seconds)), len(plain.loop.compile_seconds)
    programs = len(set(job.sizes)) * len(job.settings.scales)
    whole = programs * each + images * times["plain"].median / len(plain.ids)
    compile_seconds = max(first - times["padded"].median, 0.0) / compiled
    return [
        Row(
            name=f"{name}, padded",
            value=images / first,
            unit=unit,
            ratio=whole / first,
            versus="plain loop",
            note=f"{images} pictures; {compiled} programs of {compile_seconds:.1f} s",
        ),
        Row(
            name=f"{name}, plain loop",
            value=images / whole,
            unit=unit,
            note=f"extrapolated: {programs} programs of {each:.1f} s, the mean of {measured}",
        ),
    ]


class _Padded:
    """The stage's pipeline over the whole list; a call computes all maps."""

    def __init__(self, method: Method, variables: Variables, job: _Job) -> None:
        self.predictor = Predictor(method, data_mesh(jax.local_devices()), job.settings)
        self.cams: dict[str, np.ndarray] = {}
        self._variables, self._job = self.predictor.program.place(variables), job
        self._batches = plan_batches(job.source, job.ids, job.settings)

    def __call__(self) -> None:
        job = self._job
        for predictions in self.predictor.predict(self._variables, job.source, self._batches, job.classes):
            self.cams.update({p.image_id: p.cam for p in predictions})


class _Plain:
    """The plain loop over the first pictures of different sizes; a call computes their maps."""

    def __init__(self, method: Method, variables: Variables, job: _Job) -> None:
        of_size = {job.source.size(image_id): image_id for image_id in reversed(job.ids)}
        self.ids = sorted(of_size.values())[:_PLAIN_PICTURES]
        self.loop = PlainLoop(method, variables, job.source, job.settings.scales)
        self.cams: dict[str, np.ndarray] = {}
        self._classes = job.classes
        self._width = max(len(classes) for classes in job.classes.values())  # as the padded side's programs

    def __call__(self) -> None:
        for image_id in self.ids:
            present = self._classes[image_id]
            wanted = np.full(self._width, -1, np.int32)
            wanted[: len(present)] = present
            self.cams[image_id] = self.loop(image_id, wanted)[: len(present)]


def _inference_settings(settings: Settings) -> InferenceSettings:
    config = published_config(settings, "cam")
    config.cam.batch_size = settings.batch_size * jax.local_device_count()
    config.cam.max_buckets = _BUCKETS
    return inference_settings(config)
