"""`irn`: IRN's network, which learns boundaries and displacements from pairs of positions.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019. Its labels are what two dense CRFs agree on (`labels`); the backbone does not learn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from wsss_jax.systems.irn.network import Irn, look
from wsss_jax.systems.irn.pairs import EPSILON, TERMS, pair_terms
from wsss_jax.task import FROZEN, Outcome, Path, Progress, Task, Variables


@dataclass(frozen=True, kw_only=True)
class InterPixel(Task):
    """Trains the two branches.

    Attributes:
      network: the network.
      radius: pairs are nearer than this, in positions of 4 pixels (10).
    """

    network: Irn
    radius: int

    name = "irn"
    terms = TERMS
    epsilon = EPSILON

    @property
    def networks(self) -> Mapping[str, Irn]:
        """One network."""
        return {self.name: self.network}

    def group(self, path: Path) -> str:
        """The branches, each as a group; weights, biases, scales and shifts alike."""
        if path[2].startswith("fc_edge"):
            return "boundaries"
        return "displacements" if path[2].startswith("fc_dp") else FROZEN

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """See `pairs.pair_terms`.

        Args:
          variables: of the network.
          batch: `images` float32[B, H, W, 3], prepared; `labels` uint8[B, ceil(H / 4), ceil(W / 4)]: 0
            background, classes, 255 unknown.
          keys, progress, maximum: not used.
        """
        seen = look(self.network, variables[self.name], batch["images"])
        return Outcome(pair_terms(seen.boundaries, seen.displacements, batch["labels"], self.radius))
