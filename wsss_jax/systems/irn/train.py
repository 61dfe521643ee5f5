"""Stage `train_irn`: IRN on the labels of the images whose CAMs are to be refined."""

import functools
from collections.abc import Sequence
from typing import Any

from wsss_jax.errors import RunError
from wsss_jax.files import is_whole
from wsss_jax.runs.context import Run, require_cams
from wsss_jax.runs.provenance import read_provenance
from wsss_jax.stages.networks import classifier_path, from_scratch, load_variables, other_heads
from wsss_jax.stages.refiner import Lesson, Refiner
from wsss_jax.systems.irn.displacement import measure_mean
from wsss_jax.systems.irn.labels import InterPixelSample
from wsss_jax.systems.irn.make import inter_pixel
from wsss_jax.systems.irn.task import InterPixel
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import Restored, steps
from wsss_jax.training.loop import Optimizer
from wsss_jax.training.optimizer import sgd
from wsss_jax.training.schedules import polynomial

_NOT_OF_TRAINING = ("checkpoint", "pad", "walk")  # settings of section `irn`


def lesson(run: Run, ids: tuple[str, ...]) -> Lesson:
    """What IRN learns from.

    Raises:
      RunError: labels are missing, or have nothing to teach.
    """
    task, sample = inter_pixel(run.config), inter_pixel_sample(run, ids)
    check_labels(sample, ids)
    return Lesson(
        sample=sample,
        made_of=_made_of(run),
        optimizer=functools.partial(irn_optimizer, run),
        start=lambda restored: _initial(run, task, restored),
    )


def inter_pixel_sample(run: Run, ids: Sequence[str]) -> InterPixelSample:
    """What is made of each image; RunError if the labels of one are missing."""
    split, settings = run.config.dataset.infer_split, run.config.irn
    for image_id in ids:
        path = run.layout.training_label(split, image_id)
        if not is_whole(path):
            require_cams(run)
            raise RunError(
                f"{path}: there are no training labels of image {image_id!r}; run the stage ir_labels first"
            )
    smallest, largest = settings.scales
    return InterPixelSample(
        source=run.source,
        labels=run.layout.training_labels(split),
        crop=settings.crop,
        scales=(smallest, largest),
        flip=run.config.augment.flip,
    )


def check_labels(sample: InterPixelSample, ids: Sequence[str]) -> None:
    """RunError if the labels of all images together have no background, or no class: looks until both have
    been seen, which is at the first image as a rule."""
    background = foreground = False
    for image_id in ids:
        labels = sample.read(image_id)
        background |= bool((labels == 0).any())
        foreground |= bool(((labels > 0) & (labels < 255)).any())
        if background and foreground:
            return
    kind, remedy = ("background", "raise --config.irn.background")
    if background:
        kind, remedy = ("class", "lower --config.irn.foreground")
    raise RunError(
        f"train_irn: the training labels of all {len(ids)} images show no {kind}, so IRN would learn "
        f"nothing; {remedy} and run the stage ir_labels in another --workdir, or look at the CAMs"
    )


def irn_optimizer(run: Run, total_steps: int) -> Optimizer:
    """SGD with polynomial decay: each branch at its own rate, and no parameter without weight decay."""
    settings, power = run.config.irn, run.config.optimizer.power
    schedule = polynomial(settings.learning_rate, total_steps, power)
    make = functools.partial(
        sgd,
        groups={"boundaries": (1, 1), "displacements": (settings.displacement_rate, 1)},
        schedule=schedule,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    return Optimizer(make, schedule)


def _made_of(run: Run) -> dict[str, Any]:
    labels = read_provenance(run.layout.training_labels(run.config.dataset.infer_split))
    settings = {key: x for key, x in run.config.irn.to_dict().items() if key not in _NOT_OF_TRAINING}
    return {"cam_weights_sha256": labels["weights_sha256"], "crf": labels["crf"], **settings}


def _initial(run: Run, task: InterPixel, restored: Restored | None) -> Variables:
    if restored is not None:
        return restored.networks
    start, network = run.config.irn.init_from, task.network
    if start == "scratch":
        return {task.name: from_scratch(run, network)}
    if start == "trained":
        trained = run.layout.checkpoints(run.method.name)
        start = run.config.cams_from or (str(trained) if steps(trained) else classifier_path(run))
    return {task.name: load_variables(run, start, network, ignore=other_heads(network))}


def _after(run: Run) -> None:
    ids, config = run.ids(run.config.dataset.infer_split), run.config.irn
    measure_mean(run, inter_pixel(run.config), ids, batch_size=config.batch_size, crop=config.crop)


REFINER = Refiner(
    title="IRN",
    stage="train_irn",
    section="irn",
    checkpoint="irn.checkpoint",
    make=inter_pixel,
    lesson=lesson,
    after=_after,
)
TRAIN_IRN = REFINER.declared()
