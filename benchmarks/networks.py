"""The published configuration at the size that the settings want, and weights for it."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.row import Settings
from wsss_jax.config import defaults
from wsss_jax.method import Method
from wsss_jax.runs.devices import configure_jax
from wsss_jax.systems import SYSTEMS
from wsss_jax.task import Variables
from wsss_jax.training.initial import variable_shapes

NUM_CLASSES = 20  # of VOC


def prepare_jax(settings: Settings, *, keep_memory: bool = True) -> None:
    """Sets precision and memory, and switches off the compilation cache, which would hide compile times."""
    config = published_config(settings, "cam")
    config.cpu_keep_memory = keep_memory
    configure_jax(config)
    jax.config.update("jax_enable_compilation_cache", False)


def published_config(settings: Settings, method: str) -> ConfigDict:
    """The defaults of `wsss_jax.config`, which are the published recipe for VOC, at the settings' size."""
    config = defaults()
    config.method = method
    config.precision = settings.precision
    config.compilation_cache = ""
    config.model.width = settings.width
    config.model.blocks = settings.blocks
    config.augment.crop = settings.crop
    config.cam.scales = settings.scales
    config.loader.workers = 0
    return config


def method_of(settings: Settings, name: str) -> Method:
    """A method with VOC's 20 classes."""
    return SYSTEMS.system(name).make(published_config(settings, name), NUM_CLASSES)


def random_variables(method: Method, seed: int = 0) -> Variables:
    """Variables that keep activations near unit size; drawn by NumPy, for an initialiser compiles long."""
    rng = np.random.default_rng(seed)

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        if name in ("bias", "mean"):
            return np.zeros(leaf.shape, np.float32)
        gain = np.sqrt(2 / np.prod(leaf.shape[:-1]), dtype=np.float32)
        return rng.standard_normal(leaf.shape, np.float32) * gain

    shapes = {name: variable_shapes(network) for name, network in method.networks.items()}
    return jax.tree_util.tree_map_with_path(fill, shapes)
