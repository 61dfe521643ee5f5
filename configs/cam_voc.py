"""`cam`: the ordinary classifier and its class activation maps on PASCAL VOC 2012, psa's first step.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018; B. Zhou et al.: "Learning Deep Features for Discriminative Localization",
CVPR 2016.

    python -m wsss_jax.main --config=configs/cam_voc.py --config.dataset.root=VOCdevkit/VOC2012

Published: CAM mIoU 47.7 on `train` and 47.2 on `val` in the README of psa's code, whose command for this
scores at background 0.2. (Later papers quote 48.0 and 46.8, the README's line for the CVPR submission, which
was another program.) Not yet verified with this program.

Needs: the devkit with SegmentationClassAug, and weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params to start
from (docs/checkpoints.md). To use psa's own trained classifier instead, see docs/checkpoints.md too.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings."""
    c = defaults()
    c.method = "cam"
    c.batch_size = 16
    c.total_epochs = 15
    c.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"

    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "train"

    c.augment.resize_long = (256, 512)
    c.augment.crop = 448
    c.optimizer.learning_rate = 0.1  # as psa's README and its code's default say; later work has 0.01
    c.cam.scales = (1.0, 0.5, 1.5, 2.0)
    c.eval.fixed_threshold = 0.2
    c.eval.every_epochs = 0  # psa takes the last epoch
    c.affinity.init_from = (
        "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"  # of --config.refinement=random_walk
    )
    return c
