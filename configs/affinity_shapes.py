"""AffinityNet and random walks over the CAMs of a run on the built-in data.

    python -m wsss_jax.main --config=configs/cse_shapes.py --workdir=runs/cse_shapes
    python -m wsss_jax.main --config=configs/affinity_shapes.py

The same stages follow any method's own CAMs with `--config.refinement=random_walk`. Scores of three seeds are
in docs/refinement.md.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py, which hold AffinityNet's as well."""
    c = cam_shapes.get_config()
    c.method = "affinity"
    c.cams_from = "runs/cse_shapes"
    c.refinement = "random_walk"
    return c
