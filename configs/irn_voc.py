"""IRN over the CAMs of a run on PASCAL VOC 2012, with the numbers of WaveCAM's program.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019.

    python -m wsss_jax.main --config=configs/irn_voc.py --config.dataset.root=VOCdevkit/VOC2012 \
        --config.cams_from=runs/wave_cam_voc

The run that is named must have made the CAMs of `train_aug`, by `--config.dataset.infer_split=train_aug`; the
same stages follow any system's own CAMs with `--config.refinement=irn`. Labels, training, 990 steps of 32 at
crop 512, and masks are of `train_aug`; they are scored on `train`, which is part of it. Training starts from
torchvision's ImageNet weights of ResNet-50, `weights/resnet50-19c8e357.pth`. IRN's published network needs
neither labels nor training: `--config.irn.checkpoint=res50_irn.pth --stages=irn_walk,eval_pseudo`. Not yet
verified with this program, for that takes the full data set and the ImageNet weights.

IRN's own numbers are in configs/irn_cam_voc.py.
"""

from ml_collections import ConfigDict

from wsss_jax.config import defaults
from wsss_jax.systems.irn.settings import NUMBERS


def get_config() -> ConfigDict:
    """Returns the settings; those not set here are IRN's, docs/configuration.md."""
    c = defaults()
    c.method = "irn"
    c.cams_from = "runs/wave_cam_voc"  # another run: --config.cams_from=<its folder>
    c.refinement = "irn"
    c.dataset.name = "voc12"
    c.dataset.root = "VOCdevkit/VOC2012"
    c.dataset.eval_split = "train"
    c.eval.absent_classes = "ignore"
    c.eval.fixed_threshold = 0.21
    c.update_from_flattened_dict(NUMBERS["wavecam"])
    return c
