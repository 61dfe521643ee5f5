"""`python -m tools.convert_weights SRC DST`: the command over wsss_jax.weights."""
