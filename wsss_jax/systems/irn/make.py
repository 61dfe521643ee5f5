"""From a configuration to IRN."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from wsss_jax.systems.irn.network import Irn
from wsss_jax.systems.irn.task import InterPixel


def inter_pixel(config: ConfigDict) -> InterPixel:
    """IRN as section `irn` has it, for whatever system made the CAMs."""
    settings = config.irn
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32
    network = Irn(width=settings.width, blocks=tuple(settings.blocks), dtype=dtype)
    return InterPixel(network=network, radius=settings.radius)
