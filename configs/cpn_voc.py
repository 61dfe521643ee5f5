"""`cpn`: complementary patches (CPN) on PASCAL VOC 2012.

F. Zhang, C. Gu, C. Zhang, Y. Dai: "Complementary Patch for Weakly Supervised Semantic Segmentation", ICCV
2021.

    python -m wsss_jax.main --config=configs/cpn_voc.py --config.dataset.root=VOCdevkit/VOC2012

Published: CAM mIoU 57.4 on `train` (not verified: the figure was not checked against the paper) and, by the
authors' word in their repository's issues, 57.59 on `val`; best background score by ground truth (oracle),
scales 0.5 to 2 with flips. Not yet verified with this program, for that takes the full data set and the
ImageNet weights.

Needs: the devkit with SegmentationClassAug, and weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params to start
from (docs/checkpoints.md).

Expect: superpixels take about 0.2 s of a CPU core for each crop, so let `loader.workers` be as many as keep
up with the accelerator, or hide grid cells instead: --config.cpn.patches=grid.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are the published ones, docs/configuration.md."""
    c = defaults()
    c.method = "cpn"
    c.batch_size = 4
    c.total_epochs = 8
    c.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    c.classifier_from = "none"  # CPN needs none; '' trains the ordinary classifier, for comparison

    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "train"

    c.augment.resize_long = (448, 768)
    c.augment.crop = 448
    c.optimizer.learning_rate = 0.01
    c.optimizer.weight_decay = 5e-4
    c.optimizer.momentum = (
        5e-4  # weight decay's value: the references' quirk, see wsss_jax/training/optimizer.py
    )
    c.cam.scales = (0.5, 1.0, 1.5, 2.0)
    # Of maps that are halved, as CPN's are.
    c.eval.thresholds = tuple(i / 100 for i in range(20, 60))
    c.eval.fixed_threshold = 0.3  # ours: CPN names none
    c.eval.every_epochs = 0  # CPN takes the last epoch
    # For --config.refinement=random_walk. Its authors advise IRN's published network in place of AffinityNet,
    # and give no numbers for that one: section crf and the alphas are psa's. The CRF function in their own
    # repository, which no published script calls, is the preset `cpn` (docs/refinement.md).
    c.affinity.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"

    # The ordinary classifier, where it is trained too: configs/cam_voc.py.
    c.classifier = ConfigDict(
        {
            "batch_size": 16,
            "total_epochs": 15,
            "optimizer": {"learning_rate": 0.1},
            "augment": {"resize_long": (256, 512), "crop": 448},
            "eval": {"thresholds": tuple(i / 100 for i in range(10, 40)), "fixed_threshold": 0.2},
        }
    )
    return c
