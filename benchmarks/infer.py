"""CAM inference at several scales with flips: padded buckets against a program per size and scale.

Both sides read, rescale and return the images; the padded side is the pipeline of the stage `infer_cam`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.images import Shrunk, Size, draw_sizes, open_images
from benchmarks.networks import method_of, published_config, random_variables
from benchmarks.plain import PlainLoop
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved, seconds_of
from wsss_jax.data.source import Source
from wsss_jax.inference.buckets import plan_buckets, smallest_bucket
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.method import Method
from wsss_jax.runs.context import given_classes
from wsss_jax.sharding import data_mesh
from wsss_jax.stages.infer import inference_settings
from wsss_jax.task import Variables

_BUCKETS = 2  # for few images; a real list has the configured number
_PLAIN_PICTURES = 2  # each of them compiles a program per scale
_LIST_LENGTH = 10582  # images in VOC's train_aug
_WHOLE_LIST = "a list as long as VOC's"


@dataclass(frozen=True)
class _Job:
    """What both sides are given."""

    source: Source
    ids: tuple[str, ...]
    classes: Mapping[str, tuple[int, ...]]
    settings: InferenceSettings

    @property
    def sizes(self) -> list[Size]:
        """Of the images."""
        return [self.source.size(image_id) for image_id in self.ids]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Seconds of both sides over their own numbers of images."""

    first: float  # of the padded side's first pass, which compiles
    padded: Times
    plain: Times
    images: tuple[int, int]  # of the padded and of the plain side
    programs: int  # of the padded side
    compile_padded: float  # per program, the difference between the first pass and a later one
    compile_plain: float
    difference: float  # largest between their maps


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures both sides and counts programs and padding, also for a list as long as VOC's."""
    settings = settings or Settings()
    with open_images(settings) as (images, ids):
        source = Shrunk(images, settings.side)
        job = _Job(source, ids, given_classes(source, ids), _inference_settings(settings))
        found, here = _measure(settings, job), plan_rows("this list", job.sizes, job.settings)
        return _warm_rows(settings, found) + _cold_rows(found, job) + here + _list_rows(settings, found)


def plan_rows(what: str, sizes: Sequence[Size], settings: InferenceSettings) -> list[Row]:
    """Number of programs for a list of images, and how much of what they compute is padding."""
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
            note=f"{len(sizes):,} images of {len(set(sizes)):,} sizes; plain loop: {plain:,}",
        ),
        Row(
            name=f"CAM inference, padded area of {what}",
            value=100 * (padded - 1),
            unit="%",
            note=f"and {100 * (empty - 1):.1f} % for empty rows of batches of {settings.batch_size}",
        ),
    ]


def _measure(settings: Settings, job: _Job) -> _Measured:
    method = method_of(settings, "cam")
    variables = random_variables(method)
    padded, plain = _Padded(method, variables, job), _Plain(method, variables, job)
    first = seconds_of(padded)
    times = interleaved({"padded": padded, "plain": plain}, settings.repeats)
    compiling = max(first - times["padded"].median, 0.0)
    return _Measured(
        first=first,
        padded=times["padded"],
        plain=times["plain"],
        images=(len(job.ids), len(plain.ids)),
        programs=padded.predictor.program.compiled,
        compile_padded=compiling / padded.predictor.program.compiled,
        compile_plain=float(np.mean(plain.loop.compile_seconds)),
        difference=max(float(np.abs(padded.cams[i] - plain.cams[i]).max()) for i in plain.ids),
    )


def _warm_rows(settings: Settings, found: _Measured) -> list[Row]:
    name, unit = "CAM inference, compiled before", "images/s"
    note = f"width {settings.width:g}, {len(settings.scales)} scale(s) with flips"
    many, few = found.images
    compared = {
        "ratio": (many / found.padded.median) / (few / found.plain.median),
        "versus": "plain loop",
        "note": f"{note}; {many} images; largest difference of maps {found.difference:.0e}",
    }
    return [
        found.padded.per_second(many, f"{name}, padded", unit, **compared),
        found.plain.per_second(few, f"{name}, plain loop", unit, note=f"{note}; {few} images"),
    ]


def _cold_rows(found: _Measured, job: _Job) -> list[Row]:
    """With compilation; the plain loop's is extrapolated from the programs of its few images."""
    name, unit, (images, few) = "CAM inference, with compilation", "images/s", found.images
    programs = len(set(job.sizes)) * len(job.settings.scales)
    whole = programs * found.compile_plain + images * found.plain.median / few
    return [
        Row(
            name=f"{name}, padded",
            value=images / found.first,
            unit=unit,
            ratio=whole / found.first,
            versus="plain loop",
            note=f"{images} images; {found.programs} programs of {found.compile_padded:.1f} s",
        ),
        Row(
            name=f"{name}, plain loop",
            value=images / whole,
            unit=unit,
            note=f"extrapolated: {programs} programs of {found.compile_plain:.1f} s",
        ),
    ]


def _list_rows(settings: Settings, found: _Measured) -> list[Row]:
    """The plan for a whole list at the configured number of buckets, and how long its programs compile."""
    configured = inference_settings(published_config(settings, "cam"))
    sizes = draw_sizes(_LIST_LENGTH)
    programs, area = plan_rows(_WHOLE_LIST, sizes, configured)
    padded = programs.value * found.compile_padded
    plain = len(set(sizes)) * len(configured.scales) * found.compile_plain
    compilation = Row(
        name=f"CAM inference, compilation for {_WHOLE_LIST}",
        value=padded,
        unit="s",
        ratio=plain / padded if padded else None,
        versus="plain loop" if padded else "",
        note=f"extrapolated; plain loop: {plain / 3600:.1f} hours",
    )
    return [programs, compilation, area]


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
            self.cams.update({p.image_id: p.maps.planes for p in predictions})


class _Plain:
    """The plain loop over the first images of different sizes; a call computes their maps."""

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
