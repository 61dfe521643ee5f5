"""CAM inference without padding, as the references do it: one image and one scale at a time.

In JAX every size of image at every scale is then a program of its own.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsss_jax.data.source import Source
from wsss_jax.data.transforms import rescale
from wsss_jax.method import Method
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.task import Variables

_NOT_PADDED: Any = None
_Shape = tuple[int, ...]


class PlainLoop:
    """Multi-scale, flipped inference of a method, a program for each size and scale.

    Attributes:
      compile_seconds: of each program so far.
    """

    def __init__(
        self, method: Method, variables: Variables, source: Source, scales: tuple[float, ...]
    ) -> None:
        self._method, self._source, self._scales = method, source, scales
        self._variables = jax.device_put(variables)
        self._programs: dict[tuple[_Shape, _Shape], Any] = {}
        self.compile_seconds: list[float] = []

    def __call__(self, image_id: str, classes: np.ndarray) -> np.ndarray:
        """Returns the maps of the classes int32[K], -1 being none: float32[K, H, W] in 0..1."""
        image = self._source.image(image_id)
        shape = (image.shape[0], image.shape[1])
        total = jnp.zeros(())
        for scale in self._scales:
            pixels = rescale(image, scale)[None]
            total = total + self._program(pixels, classes, shape)(self._variables, pixels, classes)
        maps = self._method.finish(total, jnp.array([shape], jnp.int32))
        return np.asarray(maps[0].transpose(2, 0, 1))

    def _program(self, pixels: np.ndarray, classes: np.ndarray, shape: tuple[int, int]) -> Any:
        key = (pixels.shape, shape)
        if key not in self._programs:
            start = time.perf_counter()
            lowered = jax.jit(self._views, static_argnums=3).lower(self._variables, pixels, classes, shape)
            self._programs[key] = lowered.compile()
            self.compile_seconds.append(time.perf_counter() - start)
        return self._programs[key]

    def _views(
        self, variables: Variables, pixels: jax.Array, classes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """Sum of the image's and its mirror image's activated maps, [1, H, W, K]; both as one batch."""
        images = IMAGENET.images(pixels)
        both = jnp.concatenate([images, images[:, :, ::-1]])
        maps = self._method.cam(variables, both, _NOT_PADDED).maps
        maps = jnp.where(classes >= 0, maps[..., jnp.maximum(classes, 0)], 0)
        maps = jnp.stack([maps[0], maps[1, :, ::-1]])
        return self._method.activate(resize_bilinear(maps, shape)).sum(0, keepdims=True)
