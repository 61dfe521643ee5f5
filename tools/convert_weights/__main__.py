"""`python -m tools.convert_weights`: in the clone, the same as `wsss-jax convert`."""

from wsss_jax.convert.__main__ import main

if __name__ == "__main__":
    main()
