"""Which packages there are; all else is in pyproject.toml.

What lies beside the package in a clone is not to lie beside it in site-packages, under names as common as
`configs`: the experiments move into the package (see `wsss_jax.experiments`), tools and benchmarks stay
behind.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["wsss_jax*"]), "wsss_jax.configs"],
    package_dir={"wsss_jax.configs": "configs"},
)
