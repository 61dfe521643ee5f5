"""`resnet50_cam` on the built-in data: the ordinary classifier on ResNet-50, from scratch.

    python -m wsss_jax.main --config=configs/resnet50_cam_shapes.py

The images are drawn, so there is no published score.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py where the two networks do not differ."""
    c = cam_shapes.get_config()
    c.method = "resnet50_cam"
    c.resnet50.width = 1 / 16
    c.resnet50.blocks = (1, 1, 1, 1)
    c.resnet50.frozen = ()
    c.augment.crop = 128
    return c
