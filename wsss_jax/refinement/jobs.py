"""What a CRF is given and gives back, and how images become that. Imports no JAX, for workers' sake."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from wsss_jax.data.class_maps import ClassMaps, background_first, read_logits, read_maps
from wsss_jax.errors import DataError
from wsss_jax.refinement import native
from wsss_jax.refinement.energies import score_energy
from wsss_jax.refinement.pseudo import probabilities
from wsss_jax.refinement.settings import CrfSettings

T = TypeVar("T")


class Job(NamedTuple):
    """One image to be refined."""

    image_id: str
    image: np.ndarray  # uint8[H, W, 3]
    class_ids: np.ndarray  # int32[K], 0-based, ascending
    energies: np.ndarray  # float32[A, K + 1, H, W], A alternatives, background first


class Refined(NamedTuple):
    """Its probabilities, summing to 1 over background and classes: of each alternative."""

    image_id: str
    maps: list[ClassMaps]


class Refused(NamedTuple):
    """An image that cannot be refined; the others go on."""

    image_id: str
    reason: str


Load = Callable[[str], Job]


@dataclasses.dataclass(frozen=True)
class CamJobs:
    """Reads images and their class activation maps; pickled to worker processes.

    Attributes:
      image: uint8[H, W, 3] of an image id.
      path: of an image id, the file with its maps.
      energies: float32[A, K + 1, H, W] of maps float32[K, H, W] with K at least 1.
      num_classes: classes are below it.
    """

    image: Callable[[str], np.ndarray]
    path: Callable[[str], Path]
    energies: Callable[[np.ndarray], np.ndarray]
    num_classes: int

    def __call__(self, image_id: str) -> Job:
        """DataError if the image or its maps cannot be used."""
        image = self.image(image_id)
        path, size = self.path(image_id), image.shape[:2]
        class_ids, cam = read_maps(path, image_id, size, num_classes=self.num_classes)
        # Without classes only the number of alternatives counts.
        energies = self.energies(cam if len(cam) else np.zeros((1, *size), np.float32))
        return Job(image_id, image, class_ids, energies[:, : len(class_ids) + 1])


@dataclasses.dataclass(frozen=True)
class LogitJobs:
    """Reads images and what a segmentation network says of them; pickled to worker processes.

    Attributes:
      image: uint8[H, W, 3] of an image id.
      path: of an image id, the file with its logits of background and all classes, at any size.
      seen: the image as the CRF sees it, of the image itself.
      num_classes: C.
    """

    image: Callable[[str], np.ndarray]
    path: Callable[[str], Path]
    seen: Callable[[np.ndarray], np.ndarray]
    num_classes: int

    def __call__(self, image_id: str) -> Job:
        """DataError if the image or its logits cannot be used."""
        image = self.image(image_id)
        class_ids, logits = read_logits(self.path(image_id), image_id, image.shape[:2], self.num_classes)
        energies = score_energy(probabilities(logits, image.shape[:2]))
        return Job(image_id, self.seen(image), class_ids[1:], energies[None])


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
    """Loads and refines one image by pydensecrf; pickled to worker processes."""

    load: Load
    settings: CrfSettings

    def __call__(self, image_id: str) -> Refined:
        """DataError if the image or its maps cannot be used."""
        job = self.load(image_id)
        refine = functools.partial(native.mean_field, job.image, settings=self.settings)
        return without_choice(job) or refined(job, map(refine, job.energies))


def refined(job: Job, scores: Iterable[np.ndarray]) -> Refined:
    """The result of a job from the scores float32[K + 1, H, W] of each alternative."""
    class_ids = background_first(job.class_ids)
    return Refined(job.image_id, [ClassMaps(class_ids, planes) for planes in scores])


def without_choice(job: Job) -> Refined | None:
    """The result for an image without classes, which is background throughout; None for others."""
    return None if len(job.class_ids) else refined(job, np.ones_like(job.energies))
