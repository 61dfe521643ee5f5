"""`wave_cam` (WaveCAM) on the built-in data, with the classifier on ResNet-50 that it starts from.

    python -m wsss_jax.main --config=configs/wave_cam_shapes.py

The images are drawn, so there is no published score; docs/methods.md tells what came out of one seed, in
which WaveCAM loses to its classifier.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

resnet50_cam_shapes = load("resnet50_cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/resnet50_cam_shapes.py where the two methods do not differ."""
    c = resnet50_cam_shapes.get_config()
    c.classifier = ConfigDict(
        {
            "init_from": c.init_from,
            "total_epochs": c.total_epochs,
            "optimizer": {
                "learning_rate": c.optimizer.learning_rate,
                "new_layers": c.optimizer.new_layers,
            },
        }
    )
    c.method = "wave_cam"
    c.init_from = "classifier"
    c.total_epochs = 8
    c.optimizer.learning_rate /= 10
    c.optimizer.new_layers = 10.0  # the predictor starts fresh
    return c
