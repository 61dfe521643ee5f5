"""DeepLab-v2 on ResNet-101, trained on pseudo masks of MS COCO 2014.

    python -m wsss_jax.main --config=configs/deeplab_v2_coco.py --config.dataset.root=COCO \
        --config.masks=FOLDER

The recipe is that of ReCAM's author (issue 3 of LPCAM): as configs/deeplab_v2_voc.py, but groups of
10 images, two of them a step, 100000 steps and a rate of 2e-4. Not yet verified with this program.

Needs: COCO 2014 as docs/data.md has it, and weights/deeplabv1_resnet101-imagenet.pth (docs/checkpoints.md).
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

deeplab_v2_voc = load("deeplab_v2_voc")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/deeplab_v2_voc.py but for what differs."""
    c = deeplab_v2_voc.get_config()
    c.dataset.name = "coco14"
    c.dataset.root = "COCO"
    c.dataset.train_split = "train"
    c.segmentation.batch_size = 20
    c.segmentation.group_size = 10
    c.segmentation.total_steps = 100000
    c.segmentation.learning_rate = 2e-4
    return c
