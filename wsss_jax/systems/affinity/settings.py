"""Settings of AffinityNet and of the random walk along its affinities, with psa's values."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Section, Setting, numbers, one_of, rising


def _check_source(flat: Mapping[str, Any]) -> None:
    if (flat["method"] == "affinity") != bool(flat["cams_from"]):
        raise ConfigError(
            f"config.cams_from={flat['cams_from']!r}: the method affinity, and no other, needs the folder of "
            "the run whose CAMs it refines; others refine their own, with --config.refinement=random_walk"
        )


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


_RISING = numbers("one or more rising shares of 0..1", rising)
_LEVELS = tuple(i / 100 for i in range(10, 92, 2))
SECTIONS = (
    Section(
        "",
        "",
        check=_check_source,
        cams_from=Setting("", "Method `affinity`: the folder of the run whose CAMs are refined"),
    ),
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
    Section(
        "walk",
        "Random walk along affinities, with psa's values; see [refinement.md](refinement.md)",
        free=True,
        alpha=Setting(16.0, "The background's score is (1 - max CAM)^alpha", POSITIVE),
        beta=Setting(8.0, "Power of the affinities", POSITIVE),
        logt=Setting(8, "2^logt steps"),
        checkpoint=Setting("", "AffinityNet's: '' what `train_affinity` makes, or a path"),
        method=Setting("chebyshev", "Few terms, or each step", one_of("chebyshev", "stencil")),
        batch_size=Setting(8, "Images per batch over all devices of a host", POSITIVE),
        fixed_threshold=Setting(0.5, "Share against background from which masks show a class", NOT_NEGATIVE),
        thresholds=Setting(_LEVELS, "Shares of the curve", _RISING),
        threshold_from=Setting("", "Metrics JSON of another split, whose best one is applied to this split"),
    ),
)
