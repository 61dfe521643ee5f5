"""Settings of IRN and of the random walk that its boundaries stop, with its authors' values."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.refinement.settings import walk_section
from wsss_jax.settings import POSITIVE, SHARE, Check, Section, Setting, numbers

NUMBERS: Mapping[str, Mapping[str, float]] = {
    "irn": {"irn.foreground": 0.30, "irn.background": 0.05, "irn.walk.fixed_threshold": 0.25},
    "recam": {"irn.foreground": 0.35, "irn.background": 0.10, "irn.walk.fixed_threshold": 0.25},
    "wavecam": {"irn.foreground": 0.35, "irn.background": 0.10, "irn.walk.fixed_threshold": 0.28},
}
"""Of IRN itself, of ReCAM (and of WaveCAM on COCO), and of WaveCAM on VOC, on the scale of their maps."""


def _check(flat: Mapping[str, Any]) -> None:
    crop, radius = flat["irn.crop"], flat["irn.radius"]
    if radius < 2 or flat["irn.walk.radius"] < 2 or crop % 4 or crop // 4 <= 2 * (radius - 1):
        raise ConfigError(
            f"config.irn.crop={crop}, irn.radius={radius}, irn.walk.radius={flat['irn.walk.radius']}: the "
            "crop must be a multiple of 4 and more than 2 * (radius - 1) positions of 4 pixels, each radius "
            "at least 2"
        )
    background, foreground = flat["irn.background"], flat["irn.foreground"]
    if not background < foreground:
        raise ConfigError(f"config.irn.background={background}: must be less than foreground, {foreground}")


_FACTORS = numbers("(smallest, largest) factor", lambda v: len(v) == 2 and 0 < v[0] <= v[1])
SECTIONS = (
    Section(
        "irn",
        "IRN; see [refinement.md](refinement.md)",
        check=_check,
        free=True,
        checkpoint=Setting("", "Weights: '' what `train_irn` makes, or a path, such as of `res50_irn.pth`"),
        init_from=Setting(
            "weights/resnet50-19c8e357.pth",
            "The trunk, which never learns: a path, 'trained': that of the CAM network, or 'scratch'",
        ),
        foreground=Setting(0.30, "Background score of the CRF that says what is foreground", SHARE),
        background=Setting(0.05, "Of the one that says what is background", SHARE),
        batch_size=Setting(32, "Images per step over all devices and accumulation steps", POSITIVE),
        total_epochs=Setting(3, "Epochs", POSITIVE),
        scales=Setting((0.5, 1.5), "Images are rescaled by a factor drawn from here", _FACTORS),
        crop=Setting(512, "Side in pixels, a multiple of 4"),
        radius=Setting(10, "Pairs in training are nearer than this, in positions of 4 pixels"),
        learning_rate=Setting(0.1, "Of the boundaries' branch", POSITIVE),
        displacement_rate=Setting(10.0, "Times the learning rate, of the displacements' branch", POSITIVE),
        momentum=Setting(1e-4, "Not 0.9: the reference gives SGD weight decay's value for it"),
        weight_decay=Setting(1e-4, "Of all that learns"),
        width=Setting(1.0, "Multiplier of all channel counts", POSITIVE),
        blocks=Setting((3, 4, 6, 3), "Of layer1 to layer4 of its ResNet-50"),
        pad=Setting(
            0,
            "Images are padded to this side, and the group norms see it: IRN's own program 512, ReCAM's and "
            "WaveCAM's 0",
            Check("at least 0", lambda value: value >= 0),
        ),
    ),
    walk_section(
        "irn.walk",
        "The walk that IRN's boundaries stop",
        beta=10.0,
        level="Background score",
        fixed_threshold=0.25,
        thresholds=tuple(i / 100 for i in range(10, 61)),
        radius=Setting(5, "Affinities are between positions of 4 pixels nearer than this"),
    ),
)
