"""`sc_cam`: SC-CAM on PASCAL VOC 2012.

Y.-T. Chang, Q. Wang, W.-C. Hung, R. Piramuthu, Y.-H. Tsai, M.-H. Yang: "Weakly-Supervised Semantic
Segmentation via Sub-category Exploration", CVPR 2020.

    python -m wsss_jax.main --config=configs/sc_cam_voc.py --config.dataset.root=VOCdevkit/VOC2012

Published: CAM mIoU 50.9 on `train` and 49.6 on `val`, of the classes' maps of round 3 at background score
0.15, scales 0.5 to 2 with flips. Not yet verified with this program, for that takes the full data set and the
ImageNet weights.

Needs: the devkit with SegmentationClassAug; weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params, from which
every round starts, and psa's weights/res38_cls.pth, whose features the first round clusters
(`classifier_from=''` trains such a classifier first, by the recipe of configs/cam_voc.py).
docs/checkpoints.md tells where both are.

Expect: the original ran on one TITAN X of 12 GB. Three rounds of 31, 41 and 51 epochs on 10,582 crops of 224
are 1.3 million crops of about 6 x 10^11 operations each, forwards and backwards (estimated, not measured):
half a day on an accelerator that does 2 x 10^13 a second in practice.

One round alone: --config.sc_cam.rounds=1 --config.sc_cam.handoff_epochs=40, with --config.classifier_from the
run or the checkpoint of the round before.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are the published ones, docs/configuration.md."""
    c = defaults()
    c.method = "sc_cam"
    c.batch_size = 16
    c.total_epochs = 61  # of the learning rate's schedule; sc_cam.handoff_epochs says where each round ends
    c.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    c.classifier_from = "weights/res38_cls.pth"

    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "train"

    c.augment.resize_long = (256, 512)
    c.augment.crop = 224
    c.optimizer.learning_rate = 0.01
    c.cam.scales = (1.0, 0.5, 1.5, 2.0)
    c.eval.fixed_threshold = 0.15
    c.eval.absent_classes = "truth"
    c.eval.every_epochs = 0  # SC-CAM names its epochs beforehand
    c.sc_cam.k = 10
    c.sc_cam.rounds = 3
    c.sc_cam.handoff_epochs = (30, 40, 50)
    c.affinity.init_from = (
        "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"  # of --config.refinement=random_walk
    )

    # The ordinary classifier, where it is trained first: configs/cam_voc.py.
    c.classifier = ConfigDict(
        {
            "batch_size": 16,
            "total_epochs": 15,
            "optimizer": {"learning_rate": 0.1},
            "augment": {"resize_long": (256, 512), "crop": 448},
            "eval": {"fixed_threshold": 0.2},
        }
    )
    return c
