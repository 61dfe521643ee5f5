"""`wave_cam`: WaveCAM, multi-stage, on MS COCO 2014.

R. Xu et al.: "Wave-like Class Activation Map with Representation Fusion for Weakly Supervised Semantic
Segmentation", IEEE Transactions on Multimedia 2023.

    python -m wsss_jax.prepare coco14 COCO      # once
    python -m wsss_jax.main --config=configs/wave_cam_coco.py --config.dataset.root=COCO

What its authors published for COCO does not run: the predictor that it imports is absent. Read literally it
is ReCAM's, without waves: --config.wave_cam.wave=False. Here the waves of VOC are kept, with 80 classes; the
batch sizes, the weight of the cross-entropy, and the plain maps with their background score are the authors'.

Needs: COCO 2014 as docs/data.md has it, and torchvision's weights/resnet50-19c8e357.pth to start from
(docs/checkpoints.md). Not tried on COCO itself.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load
from wsss_jax.systems.irn.settings import NUMBERS

wave_cam_voc = load("wave_cam_voc")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/wave_cam_voc.py where the two data sets do not differ."""
    c = wave_cam_voc.get_config()
    c.dataset.name = "coco14"
    c.dataset.root = "COCO"
    c.dataset.train_split = "train"
    c.dataset.eval_split = "train"  # WaveCAM's code scores CAMs on all training images
    c.batch_size = 3
    c.wave_cam.ce_weight = 0.1
    c.wave_cam.maps = "plain"
    c.eval.fixed_threshold = 0.15
    c.classifier.batch_size = 8
    c.irn.batch_size = 16  # with --config.refinement=irn
    c.update_from_flattened_dict(NUMBERS["recam"])
    return c
