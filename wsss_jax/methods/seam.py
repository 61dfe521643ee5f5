"""`seam`: the maps of SEAM's published network, as InferCam asks for them; it is not trained here.

Y. Wang, J. Zhang, M. Kan, S. Shan, X. Chen: "Self-supervised Equivariant Attention Mechanism for Weakly
Supervised Semantic Segmentation", CVPR 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from wsss_jax.method import Variables
from wsss_jax.methods.untrained import Untrained
from wsss_jax.models.classifier import Scores
from wsss_jax.models.cpn import score_cpn
from wsss_jax.models.resnet38 import STRIDE
from wsss_jax.models.seam import SeamNetwork
from wsss_jax.ops.normalise import max_normalise
from wsss_jax.ops.resize import resize_twice
from wsss_jax.ops.valid import after_stride


@dataclass(frozen=True, kw_only=True)
class Seam(Untrained):
    """Its maps are the classifier's, spread by pixel correlation."""

    network: SeamNetwork

    trained = "seam"
    stages = ("infer_cam", "eval_cam", "report")

    @property
    def networks(self) -> Mapping[str, SeamNetwork]:
        """One network."""
        return {self.trained: self.network}

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """The classes' maps after pixel correlation, >= 0, without the background's."""
        scores = score_cpn(self.network, variables[self.trained], images, sizes)
        return Scores(scores.improved[..., 1:], scores.logits[..., 1:])

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """With aligned corners to the size of the network's input, as SEAM's network itself does, and from
        there by the half-pixel convention to the picture's size."""
        h, w = maps.shape[1:3]
        return resize_twice(
            maps, after_stride(sizes, STRIDE), sizes, new_sizes, (h * STRIDE, w * STRIDE), shape
        )

    def activate(self, resized: jax.Array) -> jax.Array:
        """Already positive."""
        return resized

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class by its own maximum, as InferCam does; SEAM's own program takes off the minimum first."""
        return max_normalise(total, sizes)
