"""Converts checkpoints from and to other programs' formats: the command over wsss_jax.weights."""
