"""wsss_jax: weakly supervised semantic segmentation in JAX/Flax, from image labels to masks."""

__version__ = "0.1.0"
