"""Settings of AffinityNet and of the random walk along its affinities, with psa's values."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.refinement.settings import walk_section
from wsss_jax.settings import POSITIVE, Section, Setting


def _check(flat: Mapping[str, Any]) -> None:
    crop, radius = flat["affinity.crop"], flat["affinity.radius"]
    if radius < 2 or crop % 8 or crop // 8 <= 2 * (radius - 1):
        raise ConfigError(
            f"config.affinity.crop={crop}, affinity.radius={radius}: the crop must be a multiple of 8 and "
            "more than 2 * (radius - 1) positions of 8 pixels, the radius at least 2"
        )
    low, high = flat["affinity.alpha_low"], flat["affinity.alpha_high"]
    if not low < high:
        raise ConfigError(f"config.affinity.alpha_low={low}: must be less than alpha_high, {high}")
    if flat["refinement"] == "random_walk" and not {low, high} <= set(flat["crf.alphas"]):
        raise ConfigError(
            f"config.crf.alphas={flat['crf.alphas']}: AffinityNet learns from alpha_low and alpha_high, "
            f"{[low, high]}, which must be among them"
        )


SECTIONS = (
    Section(
        "affinity",
        "AffinityNet, with psa's values",
        check=_check,
        free=True,
        init_from=Setting("trained", "'trained': the trunk that made the CAMs, 'classifier', or a path"),
        alpha_low=Setting(4.0, "Of the CRF scores that say what is foreground"),
        alpha_high=Setting(32.0, "Of those that say what is background; both must be among `crf.alphas`"),
        batch_size=Setting(8, "Images per step over all devices; the loss needs them at once", POSITIVE),
        total_epochs=Setting(8, "Epochs", POSITIVE),
        crop=Setting(448, "Side in pixels, a multiple of 8"),
        radius=Setting(5, "Pairs are nearer than this, in positions of 8 pixels; of the walk too"),
        learning_rate=Setting(0.1, "Of pretrained weights; momentum, decay: see `optimizer`", POSITIVE),
        new_layers=Setting(10.0, "Times the learning rate, of weights that start fresh"),
    ),
    walk_section(
        "walk",
        "Random walk along affinities, with psa's values; see [refinement.md](refinement.md)",
        beta=8.0,
        level="Share against background",
        fixed_threshold=0.5,
        thresholds=tuple(i / 100 for i in range(10, 92, 2)),
        alpha=Setting(16.0, "The background's score is (1 - max CAM)^alpha", POSITIVE),
        checkpoint=Setting("", "AffinityNet's: '' what `train_affinity` makes, or a path"),
    ),
)
