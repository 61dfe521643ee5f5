"""Dense CRFs of a list of images: loading, few compiled shapes, results in a steady stream."""

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from wsss_jax.data.pool import default_threads, map_ordered
from wsss_jax.errors import ConfigError
from wsss_jax.inference.predict import one_behind
from wsss_jax.refinement import native
from wsss_jax.refinement.crf import DenseCrf, Indexed
from wsss_jax.refinement.jobs import (
    Attempt,
    Job,
    Load,
    NativeTask,
    Refined,
    Refused,
    refined,
    without_choice,
)
from wsss_jax.refinement.settings import BACKENDS, CrfSettings

Size = tuple[int, int]  # (height, width) in pixels
_ROWS_PER_ACCELERATOR = 8
_USUAL_AREA = 512 * 512  # batches of larger images have fewer of them


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How images are refined; the names are those of the configuration's section `crf`.

    Attributes:
      crf: the CRF.
      backend: 'jax', 'pydensecrf', or 'auto', which is pydensecrf on a CPU that has it.
      batch_size: images per batch on this host; 0 is 8 per accelerator and 1 per CPU device.
      workers: processes of pydensecrf; 0 is one per core.
      threads: that load images for JAX; None is one per core.
    """

    crf: CrfSettings
    backend: str = "auto"
    batch_size: int = 0
    workers: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend is {self.backend!r}: must be one of {', '.join(BACKENDS)}")
        if self.batch_size < 0 or self.workers < 0:
            raise ConfigError(f"batch_size {self.batch_size}, workers {self.workers}: must be at least 0")


class CrfStream:
    """Refines lists of images; its compiled programs serve any number of them.

    Attributes:
      backend: 'jax' or 'pydensecrf'.
      program: of JAX.
    """

    def __init__(self, settings: StreamSettings, mesh: Mesh) -> None:
        """The devices of `mesh` share each batch; ConfigError if pydensecrf is wanted and not installed."""
        self.backend = choose_backend(settings.backend)
        self.program = DenseCrf(settings.crf, mesh)
        self._settings, self._mesh = settings, mesh

    def refine(
        self, load: Load, image_ids: Sequence[str], buckets: Sequence[Size]
    ) -> Iterator[list[Refined | Refused]]:
        """Yields the results some at a time, not in the list's order.

        Args:
          load: reads an image; a DataError of it comes out as `Refused`. Picklable for pydensecrf.
          image_ids: of the images.
          buckets: sizes to which images may be padded, for JAX; one that fits none keeps its own.
        """
        if self.backend == "pydensecrf":
            task = Attempt(NativeTask(load, self._settings.crf))
            workers = self._settings.workers or default_threads()
            yield from ([result] for result in map_ordered(task, image_ids, workers=workers))
            return
        done: list[Refined | Refused] = []
        groups = self._groups(load, image_ids, buckets, done)
        # The devices sort the newest and iterate the one before while the host takes the oldest.
        indexed = one_behind(map(self._index, groups))
        for group, scores in one_behind(map(self._solve, indexed)):
            yield [*done, *_collect(group, scores)]
            done.clear()
        yield done

    def _groups(
        self, load: Load, image_ids: Sequence[str], buckets: Sequence[Size], done: list[Refined | Refused]
    ) -> Iterator["_Group"]:
        """Gathers images of the same padded size and number of labels; those without a choice are `done`."""
        waiting: dict[tuple[Size, int], list[Job]] = collections.defaultdict(list)
        for job in map_ordered(Attempt(load), image_ids, threads=self._settings.threads):
            without = job if isinstance(job, Refused) else without_choice(job)
            if without is not None:
                done.append(without)
                continue
            assert isinstance(job, Job)
            shape = (_bucket(job, buckets), label_slots(job.energies.shape[1]))
            waiting[shape].append(job)
            if len(waiting[shape]) == self._rows(shape[0]):
                yield _Group(*shape, waiting.pop(shape))
        yield from (_Group(*shape, jobs) for shape, jobs in waiting.items())

    def _rows(self, bucket: Size) -> int:
        """Images per batch, a multiple of the devices."""
        devices = self._mesh.size
        on_cpu = self._mesh.devices.flat[0].platform == "cpu"
        wanted = self._settings.batch_size or devices * (1 if on_cpu else _ROWS_PER_ACCELERATOR)
        fitting = wanted * _USUAL_AREA // (bucket[0] * bucket[1])
        return -(-max(1, min(wanted, fitting)) // devices) * devices

    def _index(self, group: "_Group") -> tuple["_Group", np.ndarray, Indexed]:
        """Starts the sorting of a group's pixels."""
        rows, (H, W) = self._rows(group.bucket), group.bucket
        images = np.zeros((rows, H, W, 3), np.uint8)
        sizes = np.ones((rows, 2), np.int32)
        A = group.jobs[0].energies.shape[0]
        energies = np.zeros((rows, A, group.labels, H, W), np.float32)
        for i, job in enumerate(group.jobs):
            h, w = sizes[i] = job.image.shape[:2]
            images[i, :h, :w] = job.image
            energies[i, :, : job.energies.shape[1], :h, :w] = job.energies
            energies[i, :, job.energies.shape[1] :] = np.inf
        return group, energies, self.program.index(images, sizes)

    def _solve(self, item: tuple["_Group", np.ndarray, Indexed]) -> tuple["_Group", Any]:
        """Starts its iterations."""
        group, energies, indexed = item
        return group, self.program.solve(indexed, energies)


def choose_backend(backend: str) -> str:
    """'jax' or 'pydensecrf', which 'auto' is on a CPU that has it; ConfigError if it is not installed."""
    if backend == "pydensecrf":
        native.check_installed()
    if backend != "auto":
        return backend
    return "pydensecrf" if jax.default_backend() == "cpu" and native.is_installed() else "jax"


def label_slots(labels: int) -> int:
    """The smallest of 2, 4, 8, 16, 24, 32, ... that is not below a number of labels: few, few programs."""
    return max(2, 1 << (labels - 1).bit_length()) if labels <= 8 else -(-labels // 8) * 8


class _Group(NamedTuple):
    """Images that one program takes together."""

    bucket: Size
    labels: int
    jobs: list[Job]


def _bucket(job: Job, buckets: Sequence[Size]) -> Size:
    """The smallest padded size that holds an image, else its own."""
    height, width = job.image.shape[:2]
    fitting = [size for size in buckets if size[0] >= height and size[1] >= width]
    return min(fitting, key=lambda size: size[0] * size[1], default=(height, width))


def _collect(group: _Group, scores: Any) -> Iterator[Refined]:
    for job, planes in zip(group.jobs, np.asarray(scores), strict=False):  # further rows are empty
        labels, h, w = job.energies.shape[1:]
        yield refined(job, planes[:, :labels, :h, :w].copy())
