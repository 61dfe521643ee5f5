"""The converter by the name that it has in the clone; its code is wsss_jax/convert."""
