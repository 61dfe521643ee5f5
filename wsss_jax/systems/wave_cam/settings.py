"""Settings of WaveCAM."""

from wsss_jax.settings import NOT_NEGATIVE, Section, Setting, one_of

WAVE_CAM = Section(
    "wave_cam",
    "WaveCAM",
    ce_weight=Setting(1.0, "Of the predictor's cross-entropy; on COCO 0.1", NOT_NEGATIVE),
    wave=Setting(True, "Whether the predictor sees waves; without them it is ReCAM's"),
    maps=Setting(
        "product",
        "From the 'product' of both classifiers' weights, or 'plain', the network's own alone",
        one_of("product", "plain"),
        free=True,
    ),
)
SECTIONS = (WAVE_CAM,)
