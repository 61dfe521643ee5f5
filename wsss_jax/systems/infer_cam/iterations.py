"""The compiled part of InferCam: one iteration of maps for a batch of crops, what was found before erased.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022, section 3.3.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from wsss_jax.inference.multiscale import CamProgram, PaddedBatch
from wsss_jax.method import Method
from wsss_jax.ops.valid import flip_valid, global_average, valid_mask
from wsss_jax.sharding import split
from wsss_jax.task import Variables

Size = tuple[int, int]


class CropBatch(NamedTuple):
    """B crops before an iteration, at S scales."""

    images: PaddedBatch
    best: jax.Array  # float32[B, K, H, W], each pixel's largest score so far; 0 before the first iteration
    rows: tuple[jax.Array, ...]  # S of int32[B, Hs]: with which row of the crop each row there is erased
    columns: tuple[jax.Array, ...]  # S of int32[B, Ws]


class Iteration(NamedTuple):
    """The same crops after it."""

    best: jax.Array  # float32[B, K, H, W]
    left: jax.Array  # int32[B], pixels that are not erased


class _View(NamedTuple):
    """One scale of a batch and which of its pixels are kept."""

    pixels: jax.Array  # uint8[B, H, W, 3]
    kept: jax.Array  # bool[B, H, W]


class IterationProgram(CamProgram):
    """Multi-scale, flipped inference of crops with some pixels erased; one compilation per bucket."""

    def __init__(self, method: Method, mesh: Mesh, *, flip: bool, erase_threshold: float) -> None:
        """Batches must be divisible by the mesh's devices."""
        super().__init__(method, mesh, flip=flip)
        self._erase_threshold = erase_threshold
        out: Any = split(mesh)
        self._run_iteration: Callable[..., Iteration] = jax.jit(
            self._iterate, static_argnames="shape", out_shardings=Iteration(out, out)
        )

    def advance(self, variables: Variables, batch: CropBatch, shape: Size) -> Iteration:
        """Starts the computation of one iteration; `shape` is the bucket's (H, W)."""
        return self._run_iteration(variables, jax.device_put(batch, split(self._mesh)), shape=shape)

    def _iterate(self, variables: Variables, batch: CropBatch, shape: Size) -> Iteration:
        kept = batch.best.max(1) < self._erase_threshold
        views: Any = tuple(
            _View(pixels, _pick(kept, rows, columns))
            for pixels, rows, columns in zip(batch.images.images, batch.rows, batch.columns, strict=True)
        )
        maps = self._cams(variables, batch.images._replace(images=views), shape).maps
        best = jnp.maximum(batch.best, maps)
        inside = valid_mask(batch.images.original, *shape)[..., 0]
        return Iteration(best, jnp.sum(inside & (best.max(1) < self._erase_threshold), (1, 2)))

    def _views(self, images: Any, sizes: jax.Array) -> jax.Array:
        """Erased pixels get the mean colour of their own input.

        The mirror image is erased with the same mask, which is not mirrored: so does the authors' program.
        """
        pixels = self._method.preprocess.images(images.pixels)
        mean = global_average(pixels, sizes)[:, None, None]
        inputs = (pixels, flip_valid(pixels, sizes)) if self._flip else (pixels,)
        return jnp.concatenate([jnp.where(images.kept[..., None], each, mean) for each in inputs])


def _pick(mask: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """bool[B, H, W] at rows int32[B, h] and columns int32[B, w]: bool[B, h, w]."""
    picked = jnp.take_along_axis(mask, rows[:, :, None], axis=1)
    return jnp.take_along_axis(picked, columns[:, None, :], axis=2)


def nearest_chain(length: int, scaled: Sequence[int]) -> list[np.ndarray]:
    """From which sample of a line each sample of its nearest-neighbour resized versions comes.

    Each version is resized from the one before it and only the first from the line itself: the authors'
    program overwrites the mask in its loop over the inputs, so that the masks after scale 0.5 are as coarse
    as that one.

    Args:
      length: of the line.
      scaled: length of each version, in the order of the scales.

    Returns:
      int32[n] for each version's length n.
    """
    places, chain = np.arange(length, dtype=np.int32), []
    for n in scaled:
        places = places[_nearest(len(places), n)]
        chain.append(places)
    return chain


def _nearest(n_in: int, n_out: int) -> np.ndarray:
    """PyTorch's rule: floor(i * n_in / n_out) in float32."""
    step = np.float32(n_in) / np.float32(n_out)
    return np.minimum((np.arange(n_out, dtype=np.float32) * step).astype(np.int32), n_in - 1)
