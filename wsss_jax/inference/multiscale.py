"""The compiled part of CAM inference: all scales and flips of a batch of padded images in one program."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from wsss_jax.ops.resize import resize_valid
from wsss_jax.ops.valid import after_stride, flip_valid
from wsss_jax.sharding import replicated, split
from wsss_jax.task import CamRule, Variables


class PaddedBatch(NamedTuple):
    """B images at S scales, each inside an array of its bucket's size."""

    images: tuple[jax.Array, ...]  # S of uint8[B, Hs, Ws, 3]
    sizes: tuple[jax.Array, ...]  # S of int32[B, 2], height and width of each image at that scale
    original: jax.Array  # int32[B, 2], height and width of the maps wanted
    classes: jax.Array  # int32[B, K], the classes whose maps are wanted; -1 is a map of zeros


class Cams(NamedTuple):
    """Class activation maps of a batch, inside arrays of the bucket's size."""

    maps: jax.Array  # float32[B, K, H, W], 0..1
    logits: jax.Array  # float32[B, C], mean over scales and flips
    reduced: jax.Array | None  # float32[B, K, h, w], 0..1, at the stride `CamRule.reduced`, if there is one


class CamProgram:
    """Multi-scale, flipped inference of a method, exact inside each image; one compilation per bucket.

    For each scale and flip: the network's maps at its stride, resized to the image's original size,
    activated; their sum is normalised per class. Reduced maps are made of the same, straight at their size.
    """

    def __init__(self, method: CamRule, mesh: Mesh, *, flip: bool) -> None:
        """Batches must be divisible by the mesh's devices."""
        self.compiled = 0  # programs so far
        self._method, self._flip, self._mesh = method, flip, mesh
        self._run: Callable[..., Cams] = jax.jit(
            self._cams, static_argnames="shape", out_shardings=split(mesh)
        )

    def __call__(self, variables: Variables, batch: PaddedBatch, shape: tuple[int, int]) -> Cams:
        """Starts the computation; `shape` is the bucket's (H, W) at scale 1."""
        return self._run(variables, jax.device_put(batch, split(self._mesh)), shape=shape)

    def place(self, variables: Variables) -> Variables:
        """Copies the variables to every device."""
        return jax.device_put(variables, replicated(self._mesh))

    def _cams(self, variables: Variables, batch: PaddedBatch, shape: tuple[int, int]) -> Cams:
        self.compiled += 1  # runs when traced only
        stride = self._method.reduced
        total, small, logits = jnp.zeros(()), jnp.zeros(()), jnp.zeros(())
        for images, sizes in zip(batch.images, batch.sizes, strict=True):
            views, scores = self._one_scale(variables, images, sizes, batch)
            for maps in views:
                total += self._method.activate(self._method.resize(maps, sizes, batch.original, shape))
                small += self._reduced(maps, sizes, batch, shape) if stride else 0
            logits += scores
        maps = self._method.finish(total, batch.original).transpose(0, 3, 1, 2)
        if stride:
            small = self._method.finish(small, after_stride(batch.original, stride)).transpose(0, 3, 1, 2)
        return Cams(maps, logits / len(batch.images), small if stride else None)

    def _one_scale(
        self, variables: Variables, images: jax.Array, sizes: jax.Array, batch: PaddedBatch
    ) -> tuple[list[jax.Array], jax.Array]:
        """The network's maps of each image and, mirrored back, of its mirror image; the mean of their
        logits."""
        views = self._views(images, sizes)
        if not self._flip:
            maps, logits = self._method.cam(variables, views, sizes)
            return [_select(maps, batch.classes, logits.shape[1])], logits
        maps, logits = self._method.cam(variables, views, jnp.concatenate([sizes, sizes]))
        maps = _select(maps, jnp.concatenate([batch.classes, batch.classes]), logits.shape[1])
        plain, mirrored = jnp.split(maps, 2)
        mirrored = flip_valid(mirrored, after_stride(sizes, self._method.stride))
        return [plain, mirrored], logits.reshape(2, *sizes.shape[:1], -1).mean(0)

    def _reduced(
        self, maps: jax.Array, sizes: jax.Array, batch: PaddedBatch, shape: tuple[int, int]
    ) -> jax.Array:
        """The maps at the stride `CamRule.reduced` of the image: [B, h, w, K]."""
        stride, network = self._method.reduced, self._method.stride
        small = (-(-shape[0] // stride), -(-shape[1] // stride))
        sizes, wanted = after_stride(sizes, network), after_stride(batch.original, stride)
        return self._method.activate(resize_valid(maps, sizes, wanted, small))

    def _views(self, images: jax.Array, sizes: jax.Array) -> jax.Array:
        """What the network sees of one scale: the prepared images, and after them their mirror images.

        Both are one batch, so that half as many convolutions must be compiled.
        """
        pixels = self._method.preprocess.images(images)
        return jnp.concatenate([pixels, flip_valid(pixels, sizes)]) if self._flip else pixels


def _select(maps: jax.Array, classes: jax.Array, num_classes: int) -> jax.Array:
    """Takes each image's own classes: [B, h, w, C * m], int32[B, K] -> [B, h, w, K * m].

    A method may have m maps of each class, class by class, which its `finish` merges; most have one.
    """
    grouped = maps.reshape(*maps.shape[:3], num_classes, -1)
    index = jnp.maximum(classes, 0)[:, None, None, :, None]
    wanted = jnp.take_along_axis(grouped, index, axis=3) * (classes >= 0)[:, None, None, :, None]
    return wanted.reshape(*maps.shape[:3], -1)
