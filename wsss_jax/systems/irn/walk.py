"""Stage `irn_walk`: CAMs carried as far as IRN's boundaries let them, and the pseudo masks that they give."""

from ml_collections import ConfigDict

from wsss_jax.data.class_maps import ClassMaps, read_reduced
from wsss_jax.runs.context import Run
from wsss_jax.stages.evaluate import Size
from wsss_jax.stages.walk import SCORE, Propagation, walk_settings
from wsss_jax.systems.irn.make import inter_pixel
from wsss_jax.systems.irn.pictures import draw, drawn
from wsss_jax.systems.irn.see import IrnWalk
from wsss_jax.systems.irn.train import REFINER


def irn_walk_of(config: ConfigDict) -> IrnWalk:
    """The walk of section `irn`."""
    settings = config.irn
    return IrnWalk(
        network=inter_pixel(config).network,
        radius=settings.walk.radius,
        settings=walk_settings(settings.walk),
        pad=settings.pad,
    )


def seeds(run: Run, image_id: str, size: Size, stride: int) -> ClassMaps:
    """CAMs at a quarter of the image's size; DataError if they cannot be used."""
    path = run.layout.cam(run.config.dataset.infer_split, image_id)
    return read_reduced(path, image_id, size, num_classes=len(run.source.classes), stage="infer_cam")


IRN_WALK = Propagation(
    stage="irn_walk",
    section="irn.walk",
    checkpoint="irn.checkpoint",
    level=SCORE,
    make=irn_walk_of,
    variables=REFINER.variables,
    seeds=seeds,
    draw=draw,
    figures=drawn,
    settings=("irn.pad", "irn.walk.radius", "irn.walk.beta", "irn.walk.logt", "irn.walk.method"),
).declared()
