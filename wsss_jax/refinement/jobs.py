"""What a CRF is given and gives back, and how pictures become that. Imports no JAX, for workers' sake."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from wsss_jax.errors import DataError
from wsss_jax.refinement import native
from wsss_jax.refinement.maps import check_classes, read_maps
from wsss_jax.refinement.settings import CrfSettings

T = TypeVar("T")


class Job(NamedTuple):
    """One picture to be refined."""

    image_id: str
    image: np.ndarray  # uint8[H, W, 3]
    keys: np.ndarray  # int32[K], 0-based classes, ascending
    energies: np.ndarray  # float32[A, K + 1, H, W], A alternatives, background first


class Refined(NamedTuple):
    """Its probabilities."""

    image_id: str
    keys: np.ndarray  # int32[K]
    scores: np.ndarray  # float32[A, K + 1, H, W], summing to 1 over the labels


class Refused(NamedTuple):
    """A picture that cannot be refined; the others go on."""

    image_id: str
    reason: str


Load = Callable[[str], Job]


@dataclasses.dataclass(frozen=True)
class CamJobs:
    """Reads pictures and their class activation maps; pickled to worker processes.

    Attributes:
      image: uint8[H, W, 3] of an image id.
      path: of an image id, the file with its maps.
      energies: float32[A, K + 1, H, W] of maps float32[K, H, W] with K at least 1.
      num_classes: keys are below it; None where the number of classes is not known.
    """

    image: Callable[[str], np.ndarray]
    path: Callable[[str], Path]
    energies: Callable[[np.ndarray], np.ndarray]
    num_classes: int | None = None

    def __call__(self, image_id: str) -> Job:
        """DataError if the picture or its maps cannot be used."""
        image = self.image(image_id)
        maps = read_maps(self.path(image_id), image_id, (image.shape[0], image.shape[1]))
        if self.num_classes is not None:
            check_classes(maps, self.num_classes, image_id)
        # Without classes only the number of alternatives counts.
        cam = maps.cam if len(maps.keys) else np.zeros((1, *image.shape[:2]), np.float32)
        energies = self.energies(cam)[:, : len(maps.keys) + 1]
        return Job(image_id, image, maps.keys, energies)


@dataclasses.dataclass(frozen=True)
class Attempt(Generic[T]):
    """Calls a function of an image id and turns a DataError into a Refused."""

    function: Callable[[str], T]

    def __call__(self, image_id: str) -> T | Refused:
        """The function's result, or why there is none."""
        try:
            return self.function(image_id)
        except DataError as error:
            return Refused(image_id, str(error))


@dataclasses.dataclass(frozen=True)
class NativeTask:
    """Loads and refines one picture by pydensecrf; pickled to worker processes."""

    load: Load
    settings: CrfSettings

    def __call__(self, image_id: str) -> Refined:
        """DataError if the picture or its maps cannot be used."""
        job = self.load(image_id)
        return without_choice(job) or Refined(
            job.image_id,
            job.keys,
            np.stack([native.mean_field(job.image, planes, self.settings) for planes in job.energies]),
        )


def without_choice(job: Job) -> Refined | None:
    """The result for a picture without classes, which is background throughout; None for others."""
    if len(job.keys):
        return None
    return Refined(job.image_id, job.keys, np.ones_like(job.energies))
