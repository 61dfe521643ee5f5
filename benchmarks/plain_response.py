"""InferCam as its authors' program runs it: one crop and one input at a time, nothing padded, nothing shared.

In JAX every size of crop at every scale is then a program of its own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wsss_jax.data.transforms import IMAGENET_MEAN, IMAGENET_STD, rescale
from wsss_jax.systems.infer_cam.crops import Box, cut, through_jpeg
from wsss_jax.systems.infer_cam.eraser import CropPlan
from wsss_jax.systems.infer_cam.rule import InferCam
from wsss_jax.task import Variables

_NOT_PADDED: Any = None


class PlainResponse:
    """The four crops of an image, one after the other, each with its iterations.

    Attributes:
      programs: how many were compiled so far.
    """

    def __init__(
        self, method: InferCam, variables: Variables, scales: tuple[float, ...], jpeg_quality: int = 0
    ) -> None:
        """Of crops that go through JPEG files of a quality, or with 0 do not."""
        self.programs = 0
        self._method, self._scales, self._quality = method, scales, jpeg_quality
        self._variables = jax.device_put(variables)
        self._run = jax.jit(self._one_input, static_argnums=3)

    def __call__(self, image: np.ndarray, plan: CropPlan) -> tuple[np.ndarray, dict[Box, list[float]]]:
        """Returns float32[K, H, W], and what share of each crop each iteration erased anew."""
        result = np.zeros((len(plan.keys), *image.shape[:2]), np.float32)
        shares = {}
        for box in plan.boxes:
            crop = cut(image, box)
            crop = through_jpeg(crop, self._quality) if self._quality else crop
            best, shares[box] = self._part(crop, plan.keys)
            place = cut(result.transpose(1, 2, 0), box)
            np.maximum(place, best, out=place)
        return result, shares

    def _part(self, crop: np.ndarray, keys: tuple[int, ...]) -> tuple[np.ndarray, list[float]]:
        """Scores [h, w, K] of one crop."""
        rule, (height, width) = self._method.erasing, crop.shape[:2]
        inputs = [_normalise(rescale(crop, scale)) for scale in self._scales]
        best, left, shares = np.zeros((height, width, len(keys)), np.float32), height * width, []
        for _ in range(rule.iterations):
            best = np.maximum(best, self._maps(inputs, best.max(2) < rule.erase_threshold, keys))
            now = int((best.max(2) < rule.erase_threshold).sum())
            shares.append((left - now) / (height * width))
            left = now
            if shares[-1] < rule.min_erased_fraction:
                break
        return best, shares

    def _maps(self, inputs: list[np.ndarray], kept: np.ndarray, keys: tuple[int, ...]) -> np.ndarray:
        """Normalised maps [h, w, K] of a crop with some pixels erased; the mask goes from input to input."""
        size, total, classes = kept.shape, np.zeros(()), np.array(keys, np.int32)
        for pixels in inputs:
            kept, mean = _nearest(kept, pixels.shape[:2]), pixels.mean((0, 1))
            for step in (1, -1):
                seen = np.where(kept[..., None], pixels[:, ::step], mean)[None]
                total = total + np.asarray(self._run(self._variables, seen, classes, size))[:, ::step]
        return total / (total.max((0, 1)) + 1e-5)

    def _one_input(
        self, variables: Variables, pixels: jax.Array, classes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        self.programs += 1  # runs when traced only
        maps = self._method.cam(variables, pixels, _NOT_PADDED).maps[..., classes]
        size, new_size = jnp.array([pixels.shape[1:3]]), jnp.array([shape])
        return self._method.activate(self._method.resize(maps, size, new_size, shape))[0]


def _normalise(pixels: np.ndarray) -> np.ndarray:
    mean, std = (np.array(x, np.float32) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.astype(np.float32) / 255 - mean) / std


def _nearest(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A mask [H, W] at another size, by PyTorch's rule for the nearest neighbour."""
    for axis in (0, 1):
        step = np.float32(mask.shape[axis] / size[axis])
        places = np.floor(np.arange(size[axis], dtype=np.float32) * step).astype(int)
        mask = mask.take(places.clip(max=mask.shape[axis] - 1), axis)
    return mask
