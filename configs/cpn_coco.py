"""`cpn`: CPN on MS COCO 2014.

    python -m wsss_jax.prepare coco14 COCO      # once
    python -m wsss_jax.main --config=configs/cpn_coco.py --config.dataset.root=COCO

The authors' code has no recipe for COCO. Everything is as in configs/cpn_voc.py but for the data; that it
suits COCO is our guess. Images without a class count as negatives.

Needs: COCO 2014 as docs/data.md has it, and the ImageNet weights (docs/checkpoints.md).
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cpn_voc = load("cpn_voc")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cpn_voc.py, on COCO."""
    c = cpn_voc.get_config()
    c.dataset.name = "coco14"
    c.dataset.root = "COCO"
    c.dataset.train_split = "train"
    return c
