"""`cse` (OC-CSE) on the built-in data, with the ordinary classifier that it needs.

    python -m wsss_jax.main --config=configs/cse_shapes.py

The images are drawn, so there is no published score; docs/methods.md has the table of three seeds. About
six minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py where the two methods do not differ."""
    c = cam_shapes.get_config()
    c.method = "cse"
    c.init_from = "classifier"  # in place of ImageNet weights, which drawn images do not have
    c.total_epochs = 12
    c.optimizer.learning_rate = 0.003
    c.classifier = cam_shapes.classifier()
    return c
