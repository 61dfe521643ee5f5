"""`infer_cam`: InferCam on PASCAL VOC 2012, from a trained classifier; nothing is trained.

W. Sun, J. Zhang, N. Barnes: "Inferring the Class Conditional Response Map for Weakly Supervised Semantic
Segmentation", WACV 2022.

    python -m wsss_jax.main --config=configs/infer_cam_voc.py --config.dataset.root=VOCdevkit/VOC2012

With the crops that the authors offer, or that their first program has written: --config.infer_cam.split_path=
<folder of ID_1.jpg to ID_4.jpg>. With the other classifiers of the paper:

    ... --config.infer_cam.network=sc_cam --config.classifier_from=weights/k10_R3_resnet_cls_ep50.pth
    ... --config.infer_cam.network=seam --config.classifier_from=weights/resnet38_SEAM.pth

Expect: maps that reach farther than the initial CAMs, which the report shows beside them. The published
scores have not been verified with this program. Each image takes a few times the computing time of its
initial CAMs: up to four crops of less than its area, up to five iterations each.

Needs: the devkit with SegmentationClassAug, and psa's weights/res38_cls.pth (`classifier_from=''` trains one
first, by the recipe of configs/cam_voc.py). docs/checkpoints.md tells where the weights are.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are the authors' ones, docs/configuration.md."""
    c = defaults()
    c.method = "infer_cam"
    c.infer_cam.network = "cam"
    c.classifier_from = "weights/res38_cls.pth"
    c.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"  # where a classifier is trained first

    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "train"

    c.cam.scales = (1.0, 0.5, 1.5, 2.0)  # in this order, on which the masks of later rounds depend
    c.eval.thresholds = tuple(i / 100 for i in range(10, 60))
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
            "eval": {"every_epochs": 0},
        }
    )
    return c
