"""IRN over the CAMs of a run on the built-in data.

    python -m wsss_jax.main --config=configs/cam_shapes.py --config.refinement=irn

refines a run's own; the method `irn` those of another run:

    python -m wsss_jax.main --config=configs/cse_shapes.py --workdir=runs/cse_shapes
    python -m wsss_jax.main --config=configs/irn_shapes.py
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py, which hold IRN's as well."""
    c = cam_shapes.get_config()
    c.method = "irn"
    c.cams_from = "runs/cse_shapes"
    c.refinement = "irn"
    return c
