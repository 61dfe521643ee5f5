"""IRN over the CAMs of a run on PASCAL VOC 2012, with the numbers of its own program.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019.

    python -m wsss_jax.main --config=configs/irn_cam_voc.py --config.dataset.root=VOCdevkit/VOC2012 \
        --config.cams_from=runs/wave_cam_voc

As configs/irn_voc.py, but labels at background scores 0.30 and 0.05, masks at 0.25, CAMs scored at 0.15, and
images padded to 512 pixels before the walk, as IRN's program does and ReCAM's and WaveCAM's do not. Not yet
verified with this program, for that takes the full data set and the ImageNet weights.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load
from wsss_jax.systems.irn.settings import NUMBERS

irn_voc = load("irn_voc")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/irn_voc.py but for IRN's own numbers."""
    c = irn_voc.get_config()
    c.update_from_flattened_dict(NUMBERS["irn"])
    c.irn.pad = 512
    c.eval.fixed_threshold = 0.15
    return c
