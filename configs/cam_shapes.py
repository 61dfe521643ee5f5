"""`cam` on the built-in data: the ordinary classifier.

    python -m wsss_jax.main --config=configs/cam_shapes.py

The pictures are drawn, so there is no published score; docs/methods.md has the table of three seeds.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings."""
    c = defaults()
    c.method = "cam"
    c.batch_size = 16
    c.total_epochs = 8

    c.model.width = 0.125
    c.model.blocks = (0, 0, 1, 0)
    c.model.frozen_blocks = ()  # nothing is pretrained, so nothing is worth freezing

    c.dataset.name = "shapes"
    c.dataset.train_split = "train"
    c.dataset.infer_split = "val"
    c.dataset.eval_split = "val"

    c.augment.resize_long = (56, 88)
    c.augment.crop = 64
    c.augment.jitter = (0.0, 0.0, 0.0, 0.0)

    c.optimizer.learning_rate = 0.02
    c.optimizer.momentum = 0.9

    c.cam.scales = (1.0,)
    c.eval.every_epochs = 0
    c.loader.workers = 0
    c.loader.threads = 2
    return c
