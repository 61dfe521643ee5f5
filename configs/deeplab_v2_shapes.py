"""DeepLab-v2 on pseudo masks of the built-in data, from scratch.

    python -m wsss_jax.main --config=configs/cam_shapes.py --config.refinement=random_walk \
        --config.dataset.infer_split=train --config.dataset.eval_split=train --workdir=runs/cam_train
    python -m wsss_jax.main --config=configs/deeplab_v2_shapes.py --config.masks=runs/cam_train/pseudo/train

The same stages follow any method's own pseudo masks with `--stages=train_seg,infer_seg,eval_seg`, and
`--config.masks=true` trains on the true masks, for comparison.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py, which hold DeepLab-v2's as well."""
    c = cam_shapes.get_config()
    c.method = "deeplab_v2"
    c.masks = "runs/cam_train/pseudo/train"
    return c
