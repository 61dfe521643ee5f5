"""`cpn` (CPN) on the built-in data, beside the ordinary classifier from whose weights it starts.

    python -m wsss_jax.main --config=configs/cpn_shapes.py

The images are drawn, so there is no published score; docs/methods.md tells what came out, and why
CPN loses to its classifier here. About ten minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py where the two methods do not differ."""
    c = cam_shapes.get_config()
    c.method = "cpn"
    c.init_from = "classifier"  # in place of ImageNet weights, which drawn images do not have
    c.total_epochs = 8
    c.optimizer.learning_rate = 0.001
    c.optimizer.new_layers = 10.0  # the branch that improves the maps starts fresh
    c.cpn.cells = (48, 96)  # as large, of crops of 96, as the published ones are of 448
    # A fifth of VOC's 21 channels is as many maps as this of 7. Of a fifth of 7, nearly all errors that count
    # are the background's, and the loss raises the improved maps on the ground: measured in docs/methods.md.
    c.cpn.hard_share = 0.6
    # CPN halves its maps.
    c.eval.thresholds = tuple(i / 100 for i in range(5, 50))
    c.eval.fixed_threshold = 0.35
    c.classifier = cam_shapes.classifier()
    return c
