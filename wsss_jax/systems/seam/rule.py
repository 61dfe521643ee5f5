"""`seam`: the maps of SEAM's published network, as InferCam asks for them; it is not trained here.

Y. Wang, J. Zhang, M. Kan, S. Shan, X. Chen: "Self-supervised Equivariant Attention Mechanism for Weakly
Supervised Semantic Segmentation", CVPR 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.systems.cpn.network import score_cpn
from wsss_jax.systems.resnet38.maps import InputSizeMaps
from wsss_jax.systems.seam.network import SeamNetwork
from wsss_jax.task import Variables


@dataclass(frozen=True, kw_only=True)
class Seam(InputSizeMaps, Method):
    """Its maps are the classifier's, spread by pixel correlation.

    Each class is divided by its maximum, as InferCam does; SEAM's own program takes off the minimum first.
    """

    network: SeamNetwork

    name = "seam"

    @property
    def networks(self) -> Mapping[str, SeamNetwork]:
        """One network."""
        return {self.name: self.network}

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """The classes' maps after pixel correlation, >= 0, without the background's."""
        scores = score_cpn(self.network, variables[self.name], images, sizes)
        return Scores(scores.improved[..., 1:], scores.logits[..., 1:])
