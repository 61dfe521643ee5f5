"""AffinityNet and random walks (psa) over the CAMs of a run on PASCAL VOC 2012.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018.

    python -m wsss_jax.main --config=configs/affinity_voc.py --config.dataset.root=VOCdevkit/VOC2012

Published: table 1 of the paper. Not yet verified with this program, for that takes the full data set and the
ImageNet weights.

AffinityNet learns from the CRF scores of `dataset.infer_split` at alphas 4 and 32, and its walk makes masks
of the same pictures: for masks to train a segmentation network on, give `--config.dataset.infer_split=
train_aug` here and to the run whose CAMs are refined. An AffinityNet that psa's program has trained does as
well: `--config.walk.checkpoint=res38_aff.pth --stages=random_walk,eval_pseudo`.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are psa's in wsss_jax/config.py."""
    c = defaults()
    c.method = "affinity"
    c.cams_from = "runs/cam_voc"  # another run: --config.cams_from=<its folder>
    c.refinement = "random_walk"
    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.infer_split = "train"
    c.dataset.eval_split = "train"
    c.affinity.init_from = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
    return c
