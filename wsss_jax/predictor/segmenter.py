"""A segmentation network that is shown images, one at a time."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from PIL import Image

from wsss_jax.data.images import palette_png
from wsss_jax.data.transforms import rescale
from wsss_jax.data.user_images import UserImage, upright_rgb
from wsss_jax.errors import CheckpointError, ConfigError
from wsss_jax.files import write_bytes
from wsss_jax.predictor.checkpoint import BareFile, load
from wsss_jax.predictor.result import as_png
from wsss_jax.refinement.pseudo import probabilities
from wsss_jax.report.overlay import label_overlay
from wsss_jax.systems import SYSTEMS

# JAX is imported inside functions, so that the command's `--help` does not take seconds.

MAX_SIDE = 1024
_GRID = 64  # images are padded to multiples of this, so that most share a compiled program


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentResult:
    """What a segmentation network says of an image.

    Attributes:
      image: uint8[H, W, 3], the image as it was looked at: upright and RGB.
      labels: uint8[H, W], 0 background, class index + 1.
      classes: names of all classes.
    """

    image: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @property
    def shares(self) -> dict[str, float]:
        """The share of the image's pixels, 0..1, of each class that it has, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes) + 1)[1:] / self.labels.size
        order = sorted(np.flatnonzero(counts), key=lambda c: -counts[c])
        return {self.classes[c]: float(counts[c]) for c in order}

    def overlay(self) -> Image.Image:
        """The labels over the image, in VOC's colours."""
        return Image.fromarray(label_overlay(self.image, self.labels))


class SegmentModel:
    """A trained segmentation network that is shown images; `load` makes one from a checkpoint."""

    def __init__(
        self,
        task: Any,
        variables: Mapping[str, Any],
        classes: Sequence[str],
        recipe: Any,
        *,
        crf: bool = False,
        max_side: int = MAX_SIDE,
    ) -> None:
        """Prepares a network on one device.

        Args:
          task: a `wsss_jax.task.SegmentationTask`.
          variables: of its networks.
          classes: names of its C classes.
          recipe: the system's `SegmentationRecipe`, for the CRF.
          crf: whether label maps are refined by a dense CRF, which sees the image itself.
          max_side: images with a longer side in pixels are shrunk for the network, and its probabilities
            enlarged; 0 is no limit.
        """
        import jax

        from wsss_jax.inference.segment import SegmentProgram
        from wsss_jax.refinement.crf import DenseCrf
        from wsss_jax.sharding import data_mesh

        if max_side < 0:
            raise ConfigError(f"max_side is {max_side}; give a number of pixels, or 0 for no limit")
        self.classes = tuple(classes)
        self.about = ""  # what was loaded, for people
        mesh = data_mesh(jax.local_devices()[:1])
        self._max_side, self._crf = max_side, DenseCrf(recipe.crf, mesh) if crf else None
        self._program = SegmentProgram(task, mesh)
        self._variables = self._program.place(dict(variables))

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Loads what a run has trained, of which nothing else is needed, or a bare file of weights.

        Sets JAX's matrix precision and compilation cache as the run's configuration does.

        Args:
          checkpoint: a run's folder, its `checkpoints/<network>`, or one step of them; the last step is taken
            where there are several. Or a `.pth`, `.safetensors` or `.npz` file.
          class_names: of a file, its C classes in their order; VOC's if there are 20.
          **options: `crf` and `max_side`, see `SegmentModel`.

        Raises:
          CheckpointError: there is no checkpoint, or it is damaged or of no segmentation network.
          ConfigError: the classes have no names, or a run was given names.
        """
        loaded = load(checkpoint, BareFile(class_names=class_names), _step_folder)
        recipe = SYSTEMS.system(loaded.config.method).segmentation
        if recipe is None:
            raise CheckpointError(
                f"{checkpoint}: holds no segmentation network; python -m wsss_jax.cam shows its class "
                "activation maps"
            )
        model = cls(loaded.method, loaded.variables, loaded.classes, recipe, **options)
        model.about = loaded.about
        return model

    @overload
    def __call__(self, image: UserImage) -> SegmentResult: ...

    @overload
    def __call__(self, image: list[UserImage] | tuple[UserImage, ...]) -> list[SegmentResult]: ...

    def __call__(
        self, image: UserImage | list[UserImage] | tuple[UserImage, ...]
    ) -> SegmentResult | list[SegmentResult]:
        """Labels one image, or each of several.

        Args:
          image: a file's path, a PIL image, or uint8[H, W, 3] RGB; or a list of these, which gives a list.
            An EXIF orientation is applied.

        Raises:
          DataError: an image cannot be used.
        """
        if isinstance(image, list | tuple):
            return [self._one(each) for each in image]
        return self._one(image)

    def _one(self, image: UserImage) -> SegmentResult:
        pixels = upright_rgb(image)
        longest = max(pixels.shape[:2])
        shrunk = rescale(pixels, self._max_side / longest) if 0 < self._max_side < longest else pixels
        labels, logits = self._segments(shrunk)
        if self._crf is not None or shrunk is not pixels:
            scores = probabilities(logits, pixels.shape[:2])
            labels = self._refined(pixels, scores).argmax(0).astype(np.uint8)
        return SegmentResult(image=pixels, labels=labels, classes=self.classes)

    def _segments(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels uint8[H, W] and logits float32[C + 1, h, w]."""
        H, W = pixels.shape[:2]
        padded = np.zeros((1, -(-H // _GRID) * _GRID, -(-W // _GRID) * _GRID, 3), np.uint8)
        padded[0, :H, :W] = pixels
        found = self._program(self._variables, padded, np.array([[H, W]], np.int32))
        h, w = np.asarray(found.logit_sizes)[0]
        return np.asarray(found.labels)[0, :H, :W], np.asarray(found.logits)[0, :h, :w].transpose(2, 0, 1)

    def _refined(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The probabilities float32[C + 1, H, W] after the CRF, if there is one."""
        if self._crf is None:
            return scores
        from wsss_jax.refinement.energies import score_energy

        indexed = self._crf.index(pixels[None], np.array([pixels.shape[:2]], np.int32))
        return np.asarray(self._crf.solve(indexed, score_energy(scores)[None, None]))[0, 0]


def write_segments(result: SegmentResult, folder: str | Path) -> list[str]:
    """Writes an image's labels, and these over it, and returns the names of the files; RunError if that
    cannot be."""
    files = {"labels.png": palette_png(result.labels), "overlay.png": as_png(result.overlay())}
    for name, content in files.items():
        write_bytes(Path(folder) / name, content)
    return list(files)


def _step_folder(path: Any) -> Any:
    """The folder of a step of a segmentation network, given it, its network's folder or a run's."""
    from wsss_jax.stages.networks import step_folder
    from wsss_jax.training.checkpoints import read_meta, steps

    for folder in sorted(path.glob("checkpoints/*")):
        saved = steps(folder)
        if saved and "network" in read_meta(folder / str(saved[-1])):
            return step_folder(folder)
    return step_folder(path)
