"""DeepLab-v2 on ResNet-101, trained on pseudo masks of PASCAL VOC 2012.

L.-C. Chen et al.: "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
Fully Connected CRFs", TPAMI 2018, with the recipe of deeplab-pytorch, which SC-CAM, ReCAM and WaveCAM train.

    python -m wsss_jax.main --config=configs/deeplab_v2_voc.py --config.dataset.root=VOCdevkit/VOC2012 \
        --config.masks=runs/affinity_voc/pseudo/train_aug

`masks` is a folder of masks `<id>.png` of `train_aug`, of a run of this program or of any other.

Published: with the true masks of `train_aug` mIoU 76.65 on `val`, 77.93 with CRF, from weights that were
trained on COCO's masks; from ImageNet weights 73.4 to 76.6, and 76.8 to 78.1 with CRF. ReCAM's author tells
of 67.8 to 68.3 from pseudo masks of 70.8 on `train`. Not yet verified with this program.

Needs: the devkit with SegmentationClassAug, and weights/deeplabv1_resnet101-imagenet.pth to start from
(docs/checkpoints.md). A start from COCO's masks is possible, and every score then says so.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are DeepLab-v2's, docs/configuration.md."""
    c = defaults()
    c.method = "deeplab_v2"
    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.train_split = "train_aug"
    c.dataset.eval_split = "val"
    c.dataset.seg_split = "val"
    return c
