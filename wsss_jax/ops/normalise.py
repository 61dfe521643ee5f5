"""Scaling of class activation maps."""

import jax

from wsss_jax.ops.valid import valid_max, valid_min, zero_outside


def max_normalise(cams: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
    """Divides each class's map by its maximum + 1e-5: [B, H, W, K] of values >= 0 -> 0..1 (psa, OC-CSE)."""
    cams = zero_outside(cams, sizes)
    return cams / (cams.max((1, 2), keepdims=True) + 1e-5)


def min_max_normalise(cams: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
    """Stretches each class's map from its lowest to its highest value, of what is positive: [B, H, W, K] ->
    0..1, 0 outside the images.

    ReLU(p - min - 1e-5) / (max - min + 1e-5) with p = ReLU(cams) (SEAM, CPN).
    """
    p = jax.nn.relu(cams)
    lowest = valid_min(p, sizes)
    return zero_outside(jax.nn.relu(p - lowest - 1e-5) / (valid_max(p, sizes) - lowest + 1e-5), sizes)
