"""SEAM's network: a classifier with background on ResNet-38 whose maps are spread over what looks alike.

Y. Wang, J. Zhang, M. Kan, S. Shan, X. Chen: "Self-supervised Equivariant Attention Mechanism for Weakly
Supervised Semantic Segmentation", CVPR 2020. State dict `infercam_seam`; InferCam asks it for maps.
"""

import jax

from wsss_jax.ops.correlation import correlate
from wsss_jax.systems.cpn.network import CpnNetwork


class SeamNetwork(CpnNetwork):
    """CPN's network without its regions: CPN took trunk, side branch and pixel correlation over from SEAM.

    It is only asked for maps. To train it would take SEAM's losses, which are not part of wsss_jax.
    """

    state_dict = "infercam_seam"
    heads = ("fc8", "f8_3", "f8_4", "f9")

    def _improve(self, spread: jax.Array, side: jax.Array, sizes: jax.Array) -> jax.Array:
        """PCM alone: [B, h, w, C + 1] and [B, h, w, 195], both 0 outside -> [B, h, w, C + 1]."""
        return correlate(spread, self._shared(side))
