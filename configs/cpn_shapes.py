"""`cpn` on the built-in data, beside the ordinary classifier.

    python -m wsss_jax.main --config=configs/cpn_shapes.py
"""

from ml_collections import ConfigDict

from configs import cam_shapes


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py where the two methods do not differ."""
    c = cam_shapes.get_config()
    c.method = "cpn"
    c.init_from = "classifier"  # in place of ImageNet weights, which drawn pictures do not have
    c.total_epochs = 8
    c.optimizer.learning_rate = 0.01
    c.optimizer.new_layers = 10.0
    c.cpn.cells = (48, 96)
    classifier = {"init_from": "scratch", "total_epochs": 10, "optimizer": {"learning_rate": 0.05, "new_layers": 1.0}}
    c.classifier = ConfigDict(classifier)
    return c
