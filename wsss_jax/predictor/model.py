"""A network that is shown images, one at a time."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from PIL import Image

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.transforms import rescale
from wsss_jax.data.user_images import UserImage, upright_rgb
from wsss_jax.errors import CheckpointError, ConfigError
from wsss_jax.predictor.checkpoint import BareFile, load
from wsss_jax.predictor.result import CamResult, class_indices

# JAX is imported inside functions, so that the command's `--help` does not take seconds.

SCALES = (0.5, 1.0, 1.5, 2.0)
MAX_SIDE = 640
FILTERS = ("predicted", "all")
_GRID = 64  # images are padded to multiples of this, so that most share a compiled program


class CamModel:
    """A trained network that is shown images; `load` makes one from a checkpoint."""

    def __init__(
        self,
        method: Any,
        variables: Mapping[str, Any],
        classes: Sequence[str],
        *,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
        max_side: int = MAX_SIDE,
    ) -> None:
        """Prepares a method (see `wsss_jax.method`) on one device.

        Args:
          method: the method.
          variables: of the network that makes its maps, `{name: {'params': ..., 'batch_stats': ...}}`.
          classes: names of its C classes.
          scales: the sizes at which it looks at an image, as factors; their maps are averaged.
          flip: whether it also looks at the mirror image.
          max_side: images with a longer side in pixels are shrunk for the network, and their maps enlarged;
            0 is no limit.
        """
        import jax

        from wsss_jax.inference.multiscale import CamProgram
        from wsss_jax.sharding import data_mesh

        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ConfigError(f"scales are {list(scales)}; give one or more numbers greater than 0")
        if max_side < 0:
            raise ConfigError(f"max_side is {max_side}; give a number of pixels, or 0 for no limit")
        self.classes = tuple(classes)
        self.about = ""  # what was loaded, for people
        self._scales, self._max_side = tuple(scales), max_side
        self._program = CamProgram(method, data_mesh(jax.local_devices()[:1]), flip=flip)
        self._variables = self._program.place(dict(variables))

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        network: str | None = None,
        class_names: Sequence[str] | None = None,
        dilations: Sequence[int] | None = None,
        **options: Any,
    ) -> Self:
        """Loads what a run has trained, of which nothing else is needed, or a bare file of weights.

        Sets JAX's matrix precision and compilation cache as the run's configuration does.

        Args:
          checkpoint: a run's folder, its `checkpoints/<network>`, or one step of them; the best step is taken
            where there are several. Or a `.pth`, `.params`, `.safetensors` or `.npz` file.
          network: of a file, its state dict: 'resnet38_cls', 'cse_net_er', 'sccam_k10', 'cpn',
            'infercam_seam' or 'resnet50_cam'; told by the tensors' names if not given.
          class_names: of a file, its C classes in their order; VOC's if there are 20.
          dilations: of a file, where they are not the published (2, 4, 4), as `model.dilations` of its run.
          **options: `scales`, `flip` and `max_side`, see `CamModel`.

        Raises:
          CheckpointError: there is no checkpoint, or it is damaged or of another network.
          ConfigError: the classes have no names, or a run was given names.
        """
        bare = BareFile(network=network, class_names=class_names, dilations=dilations)
        loaded = load(checkpoint, bare)
        if not hasattr(loaded.method, "cam"):
            raise CheckpointError(
                f"{checkpoint}: holds a segmentation network, which has no class activation maps; "
                "python -m wsss_jax.segment shows its label maps"
            )
        model = cls(loaded.method, loaded.variables, loaded.classes, **options)
        model.about = loaded.about
        return model

    @overload
    def __call__(
        self, image: UserImage, classes: Sequence[str] | None = None, class_filter: str = "predicted"
    ) -> CamResult: ...

    @overload
    def __call__(
        self,
        image: list[UserImage] | tuple[UserImage, ...],
        classes: Sequence[str] | None = None,
        class_filter: str = "predicted",
    ) -> list[CamResult]: ...

    def __call__(
        self,
        image: UserImage | list[UserImage] | tuple[UserImage, ...],
        classes: Sequence[str] | None = None,
        class_filter: str = "predicted",
    ) -> CamResult | list[CamResult]:
        """Computes the maps of one image, or of each of several.

        Args:
          image: a file's path, a PIL image, or uint8[H, W, 3] RGB; or a list of these, which gives a list.
            An EXIF orientation is applied.
          classes: names of the classes whose maps are wanted.
          class_filter: which ones if `classes` is None: 'predicted', those with a probability over one half,
            or the likeliest; or 'all'.

        Raises:
          DataError: an image cannot be used.
          ConfigError: there is no such class or filter.
        """
        if isinstance(image, list | tuple):
            return [self._one(each, classes, class_filter) for each in image]
        return self._one(image, classes, class_filter)

    def _one(self, image: UserImage, classes: Sequence[str] | None, class_filter: str) -> CamResult:
        if class_filter not in FILTERS:
            raise ConfigError(f"class_filter is {class_filter!r}: must be 'predicted' or 'all'")
        wanted = range(len(self.classes)) if classes is None else class_indices(classes, self.classes)
        keys = np.unique(np.asarray(wanted, np.int32))
        pixels = upright_rgb(image)
        maps, logits = self._compute(self._shrink(pixels), keys)
        if classes is None and class_filter == "predicted":
            kept = logits > 0 if (logits > 0).any() else logits == logits.max()
            keys, maps = keys[kept], maps[kept]
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return CamResult(
            image=pixels,
            maps=ClassMaps(keys, _enlarge(maps, pixels.shape[:2])),
            classes=tuple(self.classes[key] for key in keys),
            scores={name: float(p) for name, p in zip(self.classes, probabilities, strict=True)},
        )

    def check_classes(self, classes: Sequence[str]) -> None:
        """ConfigError, with the nearest name, if the network does not know one of these."""
        class_indices(classes, self.classes)

    def _shrink(self, pixels: np.ndarray) -> np.ndarray:
        longest = max(pixels.shape[:2])
        return rescale(pixels, self._max_side / longest) if 0 < self._max_side < longest else pixels

    def _compute(self, pixels: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps float32[K, h, w] of the wanted classes, and logits float32[C]."""
        from wsss_jax.inference.buckets import scaled
        from wsss_jax.inference.multiscale import PaddedBatch

        H, W = pixels.shape[:2]
        bucket = (-(-H // _GRID) * _GRID, -(-W // _GRID) * _GRID)
        views = [rescale(pixels, scale) for scale in self._scales]
        padded = [_pad(view, scaled(bucket, s)) for view, s in zip(views, self._scales, strict=True)]
        sizes = [np.array([view.shape[:2]], np.int32) for view in views]
        # One column per class, whichever are wanted, so that every choice runs the same program.
        columns = np.full((1, len(self.classes)), -1, np.int32)
        columns[0, : len(wanted)] = wanted
        batch: Any = PaddedBatch(tuple(padded), tuple(sizes), np.array([[H, W]], np.int32), columns)  # type: ignore[arg-type]
        cams = self._program(self._variables, batch, bucket)
        return np.asarray(cams.maps)[0, : len(wanted), :H, :W], np.asarray(cams.logits)[0]


def _pad(view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    padded = np.zeros((1, *size, 3), np.uint8)
    padded[0, : view.shape[0], : view.shape[1]] = view
    return padded


def _enlarge(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes float32[K, h, w] to (H, W), bilinear."""
    if maps.shape[1:] == size:
        return maps.copy()
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(m).resize((size[1], size[0]), bilinear)) for m in maps])
