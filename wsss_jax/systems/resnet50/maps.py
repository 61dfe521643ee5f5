"""How IRN's code and its descendants make maps of what a network on ResNet-50 gives."""

from typing import ClassVar

import jax

from wsss_jax.ops.resize import resize_valid
from wsss_jax.ops.valid import after_stride
from wsss_jax.task import CamRule


class IrnMaps(CamRule):
    """Maps at the image's size, and at a quarter of it for IRN's walk."""

    reduced: ClassVar[int] = 4

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """By the half-pixel convention to the image's size rounded up to a multiple of the stride, and then
        cut, so that an image's last rows and columns show what lies a little before them; arguments as in
        `CamRule.resize`."""
        rounded = after_stride(new_sizes, self.stride) * self.stride
        return resize_valid(maps, after_stride(sizes, self.stride), rounded, shape)
