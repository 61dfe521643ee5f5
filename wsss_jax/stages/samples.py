"""Training samples as the configuration wants them."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from wsss_jax.data.loader import ClassificationSample
from wsss_jax.data.transforms import ColorJitter, Recipe
from wsss_jax.runs.context import Run


def crops(run: Run, ids: Sequence[str]) -> ClassificationSample:
    """Crops and labels, which are what a system trains on that wants no more."""
    return ClassificationSample(run.source, recipe(run.config))


def recipe(config: ConfigDict) -> Recipe:
    """The augmentation of section `augment`."""
    augment = config.augment
    names = ("brightness", "contrast", "saturation", "hue")
    jitter = ColorJitter(**dict(zip(names, augment.jitter, strict=True))) if any(augment.jitter) else None
    long = tuple(augment.resize_long)
    return Recipe(crop=augment.crop, resize_long=(long[0], long[1]), flip=augment.flip, jitter=jitter)
