"""The published networks as flax.linen modules; the only place that imports flax.linen."""
