"""From a network's maps to CAMs at a picture's size: the two ways that the published programs have."""

import jax

from wsss_jax.models.resnet38 import STRIDE
from wsss_jax.ops.normalise import max_normalise
from wsss_jax.ops.resize import resize_twice, resize_valid
from wsss_jax.ops.valid import after_stride


class Stride8Maps:
    """psa's way, which OC-CSE and SC-CAM took over: from stride 8 to the picture's size at once."""

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """By the half-pixel convention; arguments as in `Method.resize`."""
        return resize_valid(maps, after_stride(sizes, STRIDE), new_sizes, shape)

    def activate(self, resized: jax.Array) -> jax.Array:
        """`cam` gives maps after the ReLU already."""
        return resized

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class by its own maximum: [B, H, W, K] -> 0..1."""
        return max_normalise(total, sizes)


class InputSizeMaps:
    """SEAM's way, which CPN took over: the network itself answers at the size of its input."""

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """With aligned corners to the size of the network's input, as the networks do, and from there by the
        half-pixel convention to the picture's, as the inference programs do; arguments as in
        `Method.resize`."""
        h, w = maps.shape[1:3]
        padded = (h * STRIDE, w * STRIDE)
        return resize_twice(maps, after_stride(sizes, STRIDE), sizes, new_sizes, padded, shape)

    def activate(self, resized: jax.Array) -> jax.Array:
        """Maps after pixel correlation are not negative."""
        return resized

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class by its own maximum: [B, H, W, K] -> 0..1."""
        return max_normalise(total, sizes)
