"""`cam` on the built-in data: the ordinary classifier, from scratch.

    python -m wsss_jax.main --config=configs/cam_shapes.py

The images are drawn, so there is no published score; docs/methods.md has the table of three seeds. About
four minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings."""
    c = defaults()
    c.method = "cam"
    c.batch_size = 16
    c.total_epochs = 24

    # A ResNet-38 for images of 128 pixels: narrow, short, and without the dilations, whose view would be
    # the whole image. Nothing is pretrained, so nothing is worth freezing, and nothing is new either.
    c.model.width = 1 / 16
    c.model.blocks = (0, 0, 0, 0)
    c.model.dilations = (1, 1, 1)
    c.model.trunk_dropout = (0.0, 0.0)
    c.model.head_dropout = 0.0
    c.model.frozen_blocks = ()
    c.optimizer.learning_rate = 0.015
    c.optimizer.momentum = 0.9  # the references' 5e-4 goes with pretrained weights
    c.optimizer.new_layers = 1.0

    c.dataset.name = "shapes"
    c.dataset.train_split = "train"
    c.dataset.infer_split = "val"
    c.dataset.eval_split = "val"
    c.augment.resize_long = (112, 176)
    c.augment.crop = 96
    c.augment.jitter = (0.0, 0.0, 0.0, 0.0)

    # AffinityNet and its walk, where --config.refinement=random_walk asks for them. Images of 16 x 16 cells
    # have room for short walks only, and their CAMs fill the objects more evenly than those of ImageNet
    # weights: class and background break even at 0.32 with alpha 3, at 0.12 with psa's 16.
    c.affinity.crop = 96
    c.affinity.learning_rate = 0.01  # a tenth of psa's, since this momentum makes ten steps of one
    c.affinity.radius = 3
    c.affinity.total_epochs = 24
    c.walk.alpha = 3.0
    c.walk.logt = 4

    # IRN, with --config.refinement=irn: a ResNet-50 that is narrow, short and random, for no ImageNet weights
    # are of such a one; only the branches on top learn. Positions are 4 pixels, 32 x 32 in an image.
    c.irn.init_from = "scratch"
    c.irn.width = 1 / 4
    c.irn.blocks = (1, 1, 1, 1)
    c.irn.crop = 96
    c.irn.batch_size = 16
    c.irn.radius = 5
    c.irn.total_epochs = 12
    c.irn.foreground = 0.40
    c.irn.background = 0.20
    c.irn.walk.logt = 5
    c.irn.walk.fixed_threshold = 0.3
    c.irn.walk.max_buckets = 2

    # DeepLab-v2 on the pseudo masks, where --stages=train_seg,infer_seg,eval_seg asks for it: as narrow and
    # short, from scratch, and with a head whose view fits 12 x 12 positions.
    c.deeplab_v2.width = 1 / 8
    c.deeplab_v2.blocks = (1, 1, 1, 1)
    c.deeplab_v2.dilations = (1, 1, 1, 1)
    c.deeplab_v2.atrous = (1, 2, 3, 4)
    c.segmentation.init_from = "scratch"
    c.segmentation.crop = 96
    c.segmentation.total_steps = 800
    c.segmentation.learning_rate = 0.001
    c.segmentation.max_buckets = 2

    c.cam.scales = (1.0,)
    c.cam.max_buckets = 2  # few images: compiling costs more than padding
    c.eval.every_epochs = 0
    c.eval.fixed_threshold = 0.3
    c.eval.thresholds = tuple(i / 100 for i in range(5, 80))
    c.loader.workers = 0
    c.loader.threads = 2
    return c


def classifier() -> ConfigDict:
    """Returns section `classifier` for a method's own file: what it must not take over from the method."""
    c = get_config()
    return ConfigDict(
        {
            "init_from": c.init_from,
            "total_epochs": c.total_epochs,
            "optimizer": {
                "learning_rate": c.optimizer.learning_rate,
                "new_layers": c.optimizer.new_layers,
            },
            "eval": {"thresholds": c.eval.thresholds, "fixed_threshold": c.eval.fixed_threshold},
        }
    )
