"""What `deeplab_v2` consists of, which learns from masks: anybody's, or those of a run of another system."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wsss_jax.refinement.energies import mean_subtracted
from wsss_jax.refinement.settings import DEEPLAB
from wsss_jax.runs.context import Run, SegmentationRecipe, System
from wsss_jax.stages.report import REPORT
from wsss_jax.stages.segmentation import STAGES
from wsss_jax.systems.deeplab_v2.crops import LabelledCrop
from wsss_jax.systems.deeplab_v2.network import DeepLabV2
from wsss_jax.systems.deeplab_v2.task import DeepLabV2Task
from wsss_jax.training.loop import Optimizer
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.schedules import polynomial
from wsss_jax.weights import trunk_blocks
from wsss_jax.weights.mapping import flatten


def make(config: ConfigDict, num_classes: int) -> DeepLabV2Task:
    """The network of section `deeplab_v2`, for whatever system made the masks."""
    settings = config.deeplab_v2
    network = DeepLabV2(
        num_classes,
        width=settings.width,
        blocks=tuple(settings.blocks),
        dilations=tuple(settings.dilations),
        atrous=tuple(settings.atrous),
        dtype=jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32,
    )
    return DeepLabV2Task(network=network, group_size=config.segmentation.group_size)


def sample(run: Run, mask: Callable[[str], np.ndarray]) -> LabelledCrop:
    """Crops as section `segmentation` wants them."""
    settings = run.config.segmentation
    return LabelledCrop(
        source=run.source,
        mask=mask,
        crop=settings.crop,
        scales=tuple(settings.scales),
        flip=settings.flip,
    )


def optimizer(config: ConfigDict) -> Optimizer:
    """SGD with polynomial decay, whose rate is set anew at every tenth step."""
    settings = config.segmentation
    decay = {"max_step": settings.total_steps, "power": settings.power, "every": settings.rate_every}
    make_sgd = functools.partial(
        polynomial_sgd,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        new_layers=settings.new_layers,
        **decay,
    )
    return Optimizer(make_sgd, polynomial(settings.learning_rate, **decay))


def set_sizes(config: ConfigDict, params: Mapping[str, Any]) -> int:
    """Sets width and blocks in a configuration by the parameters; returns the number of classes."""
    stem = params["trunk"]["layer1_conv1"]["conv"]["kernel"]
    config.deeplab_v2.width = stem.shape[-1] / 64
    config.deeplab_v2.blocks = trunk_blocks("/".join(path) for path, _ in flatten(params))
    return params["aspp"]["c0"]["bias"].shape[0] - 1


SYSTEM = System(
    name="deeplab_v2",
    title="DeepLab-v2",
    make=make,
    stages=(*STAGES, REPORT),
    published={"deeplabv2_resnet101": set_sizes},
    segmentation=SegmentationRecipe(
        sample=sample, optimizer=optimizer, crf=DEEPLAB, crf_image=mean_subtracted
    ),
)
