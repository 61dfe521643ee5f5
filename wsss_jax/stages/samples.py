"""Training samples as the configuration wants them."""

from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

from wsss_jax.data.loader import ClassificationSample, MakeSample
from wsss_jax.data.transforms import ColorJitter, Recipe
from wsss_jax.runs.context import Run
from wsss_jax.systems.cpn.patches import Patches, PatchSample
from wsss_jax.systems.sc_cam.subcategories import sub_label_vectors

# What a method's batches hold besides images and labels: (run, ids) -> name -> image id -> vector.
_VECTORS: Mapping[str, Callable[[Run, Sequence[str]], dict]] = {"sc_cam": sub_label_vectors}


def training_sample(run: Run, ids: Sequence[str]) -> MakeSample:
    """What the run's method trains on, for the images of its training list."""
    vectors = _VECTORS.get(run.config.method)
    sample = ClassificationSample(run.source, recipe(run.config), vectors(run, ids) if vectors else {})
    return PatchSample(sample, patches(run.config)) if run.config.method == "cpn" else sample


def patches(config: ConfigDict) -> Patches:
    """The complementary patches of section `cpn`."""
    c = config.cpn
    return Patches(
        strategy=c.patches,
        segments=c.segments,
        compactness=c.compactness,
        share=c.share,
        cells=tuple(c.cells),
        probability=c.probability,
    )


def recipe(config: ConfigDict) -> Recipe:
    """The augmentation of section `augment`."""
    augment = config.augment
    names = ("brightness", "contrast", "saturation", "hue")
    jitter = ColorJitter(**dict(zip(names, augment.jitter, strict=True))) if any(augment.jitter) else None
    long = tuple(augment.resize_long)
    return Recipe(crop=augment.crop, resize_long=(long[0], long[1]), flip=augment.flip, jitter=jitter)
