"""`cse` (OC-CSE) on the built-in data, with the ordinary classifier that it needs.

python -m wsss_jax.main --config=configs/cse_shapes.py
"""

from ml_collections import ConfigDict

from configs import cam_shapes


def get_config() -> ConfigDict:
    """Returns the settings."""
    c = cam_shapes.get_config()
    c.method = "cse"
    c.init_from = "classifier"
    c.total_epochs = 8
    c.classifier = ConfigDict({"total_epochs": 8, "init_from": "scratch"})
    return c
