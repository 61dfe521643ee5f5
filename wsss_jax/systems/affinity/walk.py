"""Stage `random_walk`: CAMs carried along AffinityNet's affinities, and the pseudo masks that they give."""

from dataclasses import dataclass
from typing import cast

import jax
from ml_collections import ConfigDict

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.ops.valid import after_stride, zero_outside
from wsss_jax.refinement.pseudo import walk_seeds
from wsss_jax.refinement.walk import WalkSettings, psa_affinities, psa_walk
from wsss_jax.runs.context import Run
from wsss_jax.stages.evaluate import Size, read_cams
from wsss_jax.stages.walk import SHARE, Propagation, walk_settings
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.affinity.train import REFINER
from wsss_jax.task import Variables


@dataclass(frozen=True, kw_only=True)
class AffinityWalk:
    """psa's walk; see `refinement.walker.Walk`.

    Attributes:
      network: AffinityNet.
      radius: of pairs.
      settings: how far it goes.
    """

    network: AffinityNet
    radius: int
    settings: WalkSettings

    @property
    def stride(self) -> int:
        """Pixels per position."""
        return self.network.stride

    def see(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> jax.Array:
        """Affinities, in the layout of `ops.stencil`."""
        # psa pads images to multiples of 8, by zeros after normalising, and its network sees the padding.
        positions = after_stride(sizes, self.stride)
        pixels = zero_outside(self.network.preprocess.images(images), sizes)
        features = self.network.apply(variables, pixels, positions * self.stride)
        return psa_affinities(cast(jax.Array, features), positions, self.radius)

    def carry(self, planes: jax.Array, seen: jax.Array, sizes: jax.Array) -> jax.Array:
        """psa's walk of planes, background among them."""
        return psa_walk(planes, seen, self.radius, self.settings)


def affinity_walk(config: ConfigDict) -> AffinityWalk:
    """The walk of section `walk`."""
    method = affinity_net(config)
    return AffinityWalk(network=method.network, radius=method.radius, settings=walk_settings(config.walk))


def seeds(run: Run, image_id: str, size: Size, stride: int) -> ClassMaps:
    """Background and CAMs; DataError if these cannot be used."""
    return walk_seeds(read_cams(run, image_id, size), run.config.walk.alpha, stride)


RANDOM_WALK = Propagation(
    stage="random_walk",
    section="walk",
    checkpoint="walk.checkpoint",
    level=SHARE,
    make=affinity_walk,
    variables=REFINER.variables,
    seeds=seeds,
    settings=("affinity.radius", "walk.alpha", "walk.beta", "walk.logt", "walk.method"),
).declared()
