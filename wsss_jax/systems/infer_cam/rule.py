"""`infer_cam`: the class-conditional response map of a trained classifier, without training.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022 (InferCam).

A classifier's map is strong where a class is told from others most easily. InferCam asks the same
classifier again: of four overlapping crops of the image, split around the initial CAMs' centres of mass, and
of each crop several times, with what was found before painted over. A pixel's score is the largest it ever
had.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.systems.infer_cam.settings import ErasingRule, SplitRule
from wsss_jax.task import Variables


@dataclass(frozen=True, kw_only=True)
class InferCam(Method):
    """Asks another method's network.

    Attributes:
      base: the method whose network and initial CAMs are used.
      split: where an image is split into crops.
      erasing: how often a crop is asked, and what is painted over.
    """

    base: Method
    split: SplitRule
    erasing: ErasingRule

    @property
    def name(self) -> str:  # type: ignore[override]
        """The base's."""
        return self.base.name

    @property
    def networks(self) -> Mapping[str, Any]:
        """The base's network that makes maps."""
        return {self.name: self.base.networks[self.name]}

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """The base's."""
        return self.base.cam(variables, images, sizes)

    def resize(
        self, maps: jax.Array, sizes: jax.Array, new_sizes: jax.Array, shape: tuple[int, int]
    ) -> jax.Array:
        """The base's."""
        return self.base.resize(maps, sizes, new_sizes, shape)

    def activate(self, resized: jax.Array) -> jax.Array:
        """The base's."""
        return self.base.activate(resized)
