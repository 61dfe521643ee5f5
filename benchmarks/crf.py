"""Dense CRFs of images in memory: ours, and pydensecrf in one process and in one per core.

Both sides get the same energies and are checked to give the same probabilities. Images keep their own size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from benchmarks.images import open_images
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved
from wsss_jax.data.pool import Pool, default_threads
from wsss_jax.errors import RunError
from wsss_jax.inference.buckets import plan_buckets
from wsss_jax.refinement import native
from wsss_jax.refinement.energies import score_energy
from wsss_jax.refinement.jobs import Job, NativeTask, Refined
from wsss_jax.refinement.settings import PSA
from wsss_jax.refinement.stream import CrfStream, StreamSettings
from wsss_jax.sharding import data_mesh

_LABELS = (3, 21)  # VOC: two classes and background, and all
_MAX_PICTURES = 4
_BUCKETS = 1
_ALIKE = 1e-3
_ONE = "pydensecrf, one process"

Work = Callable[[], list[Refined]]


@dataclass(frozen=True)
class _Ready:
    """Hands out jobs that are in memory already; pickled to pydensecrf's processes once."""

    jobs: Mapping[str, Job]

    def __call__(self, image_id: str) -> Job:
        return self.jobs[image_id]


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures images per second with 3 and with 21 labels.

    Raises:
      RunError: the two sides do not give the same probabilities.
    """
    settings = settings or Settings()
    measured = {labels: _measure(settings, labels) for labels in _LABELS}
    result = [row for labels, (times, images) in measured.items() for row in _rows(labels, times, images)]
    (few, images), (many, _) = measured[_LABELS[0]], measured[_LABELS[-1]]
    ratio = many["jax"].median / few["jax"].median
    name = f"dense CRF, jax, the {_LABELS[0]} labels present"
    return [
        *result,
        few["jax"].per_second(images, name, "images/s", ratio=ratio, versus=f"all {_LABELS[-1]} labels, jax"),
    ]


def _rows(labels: int, times: Mapping[str, Times], images: int) -> list[Row]:
    result = []
    for side, time in times.items():
        compared = {}
        if _ONE in times and side != _ONE:
            compared = {"ratio": times[_ONE].median / time.median, "versus": _ONE}
        name = f"dense CRF, {labels} labels, {side}"
        result.append(time.per_second(images, name, "images/s", **compared, note=f"{images} images"))
    return result


def _measure(settings: Settings, labels: int) -> tuple[dict[str, Times], int]:
    """Times of each side, and the number of images."""
    jobs = _jobs(settings, labels)
    stream = CrfStream(StreamSettings(crf=PSA, backend="jax"), data_mesh())
    buckets = plan_buckets((job.image.shape[:2] for job in jobs.values()), _BUCKETS)
    works: dict[str, Work] = {"jax": lambda: _flat(stream, jobs, buckets)}
    if not native.is_installed():
        return interleaved(works, settings.repeats), len(jobs)
    task, processes = NativeTask(_Ready(jobs), PSA), default_threads()
    works[_ONE] = lambda: [task(image_id) for image_id in jobs]
    with Pool(task, workers=processes) as pool:

        def in_processes() -> list[Refined]:
            return [future.result() for future in [pool.submit(image_id) for image_id in jobs]]

        works[f"pydensecrf, {processes} processes"] = in_processes
        _check_alike(works["jax"](), works[_ONE]())
        return interleaved(works, settings.repeats), len(jobs)


def _flat(stream: CrfStream, jobs: Mapping[str, Job], buckets: list[tuple[int, int]]) -> list[Refined]:
    results = stream.refine(_Ready(jobs), list(jobs), buckets)
    return [result for several in results for result in several if isinstance(result, Refined)]


def _check_alike(ours: list[Refined], theirs: list[Refined]) -> None:
    expected = {result.image_id: result.maps[0].planes for result in theirs}
    for result in ours:
        difference = float(np.abs(result.maps[0].planes - expected[result.image_id]).max())
        if difference > _ALIKE:
            raise RunError(f"the CRFs of image {result.image_id} differ by {difference:.2g}: a bug")


def _jobs(settings: Settings, labels: int) -> dict[str, Job]:
    """Images with smooth random scores."""
    rng, jobs = np.random.default_rng(0), {}
    with open_images(settings) as (source, ids):
        for image_id in ids[:_MAX_PICTURES]:
            image = source.image(image_id)
            size = image.shape[:2]
            coarse = rng.standard_normal((labels, size[0] // 40 + 2, size[1] // 40 + 2)).astype(np.float32)
            planes = np.exp(2 * jax.image.resize(coarse, (labels, *size), "cubic"))
            energies = score_energy(planes / planes.sum(axis=0))[None]
            jobs[image_id] = Job(image_id, image, np.arange(labels - 1, dtype=np.int32), energies)
    return jobs
