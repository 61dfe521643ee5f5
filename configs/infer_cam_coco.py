"""`infer_cam`: InferCam on MS COCO 2014.

    python -m wsss_jax.prepare coco14 COCO      # once
    python -m wsss_jax.main --config=configs/infer_cam_coco.py --config.dataset.root=COCO

The authors' code has no recipe for COCO. Everything is as in configs/infer_cam_voc.py but for the data;
that it suits COCO is our guess. The ordinary classifier is trained first. Images without a class get maps
of no class.

Needs: COCO 2014 as docs/data.md has it, and the ImageNet weights (docs/checkpoints.md).
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

infer_cam_voc = load("infer_cam_voc")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/infer_cam_voc.py, on COCO."""
    c = infer_cam_voc.get_config()
    c.dataset.name = "coco14"
    c.dataset.root = "COCO"
    c.dataset.train_split = "train"
    c.classifier_from = ""  # psa publishes no classifier of COCO's classes: it is trained first
    return c
