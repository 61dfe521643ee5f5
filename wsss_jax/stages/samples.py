"""Training samples as the configuration wants them."""

from ml_collections import ConfigDict

from wsss_jax.data.transforms import ColorJitter, Recipe


def recipe(config: ConfigDict) -> Recipe:
    """The augmentation of section `augment`."""
    augment = config.augment
    names = ("brightness", "contrast", "saturation", "hue")
    jitter = ColorJitter(**dict(zip(names, augment.jitter, strict=True))) if any(augment.jitter) else None
    long = tuple(augment.resize_long)
    return Recipe(crop=augment.crop, resize_long=(long[0], long[1]), flip=augment.flip, jitter=jitter)
