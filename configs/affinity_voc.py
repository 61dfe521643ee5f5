"""AffinityNet and random walks (psa) over the CAMs of a run on PASCAL VOC 2012.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018.

    python -m wsss_jax.main --config=configs/cam_voc.py --config.dataset.infer_split=train_aug \
        --config.dataset.root=VOCdevkit/VOC2012
    python -m wsss_jax.main --config=configs/affinity_voc.py --config.dataset.root=VOCdevkit/VOC2012

Published: mIoU of pseudo masks 61.0 on `train` and 60.2 on `val` in the README of psa's code, with alphas 4
and 32 and the walk's 16 as here; its line for the CVPR submission, 58.1 and 57.0, is of 4, 24 and 16. Not yet
verified with this program, for that takes the full data set and the ImageNet weights.

AffinityNet learns from the CRF scores of `train_aug` and its walk makes masks of the same images, for a
segmentation network to learn from; they are scored on `train`, which is part of it. So the run whose CAMs are
refined must have made those of `train_aug`: the first command above. The AffinityNet that psa's README links
needs no training and no more than the CAMs of the images that are scored: `--config.walk.checkpoint=
res38_aff.pth --config.dataset.infer_split=train --stages=random_walk,eval_pseudo`.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are psa's, docs/configuration.md."""
    c = defaults()
    c.method = "affinity"
    c.cams_from = "runs/cam_voc"  # another run: --config.cams_from=<its folder>
    c.refinement = "random_walk"
    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.eval_split = "train"
    c.affinity.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    return c
