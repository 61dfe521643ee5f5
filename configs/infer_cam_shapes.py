"""`infer_cam` (InferCam) on the built-in data, with the ordinary classifier that it asks.

    python -m wsss_jax.main --config=configs/infer_cam_shapes.py

The images are drawn, so there is no published score; docs/methods.md has the table of three seeds. About
four minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from wsss_jax.experiments import load

cam_shapes = load("cam_shapes")


def get_config() -> ConfigDict:
    """Returns the settings: those of configs/cam_shapes.py, by which the classifier is trained."""
    c = cam_shapes.get_config()
    c.method = "infer_cam"
    c.infer_cam.jpeg_quality = 0  # drawn images never were JPEG files
    c.infer_cam.max_buckets = 4  # few images: compiling costs more than padding
    c.classifier = cam_shapes.classifier()
    return c
