"""The training step of `cam` and `cse`, with the weight gradient 'taps' against XLA's own.

The step is that of the training loop, with the published optimiser and frozen blocks, on a batch that is on
the device already: neither the loader nor the log is in the times.
"""

import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import NUM_CLASSES, method_of, published_config, random_variables
from benchmarks.row import Row, Settings
from benchmarks.timing import interleaved
from wsss_jax.method import Method
from wsss_jax.sharding import data_mesh, put_batch, replicated
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.step import TrainState, make_train_step, partition

_METHODS = ("cam", "cse")
_STEPS_PER_EPOCH = 1000  # only the schedules depend on it


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures; for each method two rows of images per second and two of seconds to compile."""
    settings = settings or Settings()
    return [row for name in _METHODS for row in _method_rows(settings, name)]


def _method_rows(settings: Settings, name: str) -> list[Row]:
    images = settings.batch_size * jax.device_count()
    steps = {how: Step(settings, method_of(settings, name, how), images) for how in ("taps", "stock")}
    times = interleaved(steps, settings.repeats)
    faster = times["stock"].median / times["taps"].median
    compiles = {how: step.compile_seconds for how, step in steps.items()}
    size = f"width {settings.width:g}, {images} crops of {settings.crop}"
    step = f"{name} training step"
    taps = {"ratio": faster, "versus": "stock", "note": size}
    return [
        times["taps"].per_second(images, f"{step}, taps", "images/s", **taps),
        times["stock"].per_second(images, f"{step}, stock", "images/s", note=size),
        *compilation_rows(step, compiles),
    ]


def compilation_rows(step: str, seconds: Mapping[str, float]) -> list[Row]:
    """Rows of the seconds that two ways of a step take to compile; the first is compared with the second."""
    (first, its), (second, others) = seconds.items()
    name = f"{step}, compilation"
    return [
        Row(name=f"{name}, {first}", value=its, unit="s", ratio=others / its, versus=second),
        Row(name=f"{name}, {second}", value=others, unit="s"),
    ]


class Step:
    """A compiled training step and its state; a call takes one step and waits for it."""

    def __init__(self, settings: Settings, method: Method, images: int) -> None:
        mesh = data_mesh()
        trainable, frozen = partition(random_variables(method), method)
        config = published_config(settings, "cam").optimizer
        optimizer = polynomial_sgd(
            {path: method.group(tuple(path.split("/"))) for path in trainable},
            learning_rate=1e-6,  # of random weights, so that the loss stays finite for any number of steps
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            power=config.power,
            max_step=15 * _STEPS_PER_EPOCH,
        )
        totals = {name: jnp.zeros(()) for name in method.metrics}
        state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable), totals)
        # Copies, for the step donates its state and a CPU device may share NumPy's memory.
        self._state = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=replicated(mesh))(state)
        batch = put_batch(_random_batch(images, settings.crop), mesh, accumulation=1)
        self._rest = (jax.device_put(frozen, replicated(mesh)), batch, jax.random.key(0))
        step: Any = make_train_step(
            method, optimizer, _STEPS_PER_EPOCH, mesh
        )  # jitted, and so can be lowered
        start = time.perf_counter()
        self._step = step.lower(self._state, *self._rest).compile()
        self.compile_seconds = time.perf_counter() - start

    def __call__(self) -> TrainState:
        """Takes a step and waits for it."""
        self._state = jax.block_until_ready(self._step(self._state, *self._rest))
        return self._state


def _random_batch(images: int, crop: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = (rng.random((images, NUM_CLASSES)) < 0.1).astype(np.float32)
    labels[np.arange(images), rng.integers(0, NUM_CLASSES, images)] = 1
    return {
        "image": rng.integers(0, 256, (images, crop, crop, 3), dtype=np.uint8),
        "box": np.tile(np.array([0, crop, 0, crop], np.int32), (images, 1)),
        "labels": labels,
        "keep": rng.integers(0, 2, (images, crop, crop), dtype=np.uint8),  # of CPN
    }
