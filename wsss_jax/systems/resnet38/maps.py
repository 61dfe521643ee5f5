"""Maps of networks that answer at the size of their input: SEAM's way, which CPN took over."""

import jax

from wsss_jax.ops.resize import resize_twice
from wsss_jax.ops.valid import after_stride
from wsss_jax.task import CamRule


class InputSizeMaps(CamRule):
    """From the network's stride to its input's size, and from there to the image's."""

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """With aligned corners to the size of the network's input, as the networks do, and from there by the
        half-pixel convention to the image's, as the inference programs do; arguments as in
        `CamRule.resize`."""
        h, w = maps.shape[1:3]
        padded = (h * self.stride, w * self.stride)
        return resize_twice(maps, after_stride(sizes, self.stride), sizes, new_sizes, padded, shape)
