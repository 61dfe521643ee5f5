"""`python -m tools.convert_weights`: in the clone, the same as `wsss-jax convert`."""

from wsss_jax.commandline import run_command

if __name__ == "__main__":
    run_command("wsss_jax.convert.__main__:main")
