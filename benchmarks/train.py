"""The training step of `cam` and `cse`, and the network's largest 1x1 convolution as a matrix product.

The step is that of the training loop, with the published optimiser and frozen blocks, on a batch that is on
the device already: neither the loader nor the log is in the times.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import NUM_CLASSES, method_of, published_config, random_variables
from benchmarks.row import Row, Settings
from benchmarks.timing import interleaved
from wsss_jax.method import Method
from wsss_jax.ops.conv import conv2d
from wsss_jax.sharding import data_mesh, put_batch, replicated
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.step import TrainState, first_state, make_train_step, partition

_METHODS = ("cam", "cse")
_STEPS_PER_EPOCH = 1000  # only the schedules depend on it


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures; for each method images per second and seconds to compile, then two rows of one layer."""
    settings = settings or Settings()
    return [*(row for name in _METHODS for row in _method_rows(settings, name)), *_pointwise_rows(settings)]


def _method_rows(settings: Settings, name: str) -> list[Row]:
    images = settings.batch_size * jax.device_count()
    step = Step(settings, method_of(settings, name), images)
    times = interleaved({"step": step}, settings.repeats)["step"]
    size = f"width {settings.width:g}, {images} crops of {settings.crop}"
    return [
        times.per_second(images, f"{name} training step", "images/s", note=size),
        Row(name=f"{name} training step, compilation", value=step.compile_seconds, unit="s"),
    ]


def _pointwise_rows(settings: Settings) -> list[Row]:
    """b7's shortcut, value and both gradients: the product of `ops.conv.conv2d` and XLA's convolution."""
    rng, side = np.random.default_rng(0), settings.crop // 8
    inputs, outputs = (max(1, int(n * settings.width)) for n in (2048, 4096))
    x = jnp.asarray(rng.standard_normal((settings.batch_size, side, side, inputs), np.float32))
    kernel = jnp.asarray(rng.standard_normal((1, 1, inputs, outputs), np.float32))
    works = {
        how: functools.partial(_waited, _squares_gradient(function), x, kernel)
        for how, function in (("product", conv2d), ("convolution", _convolution))
    }
    times = interleaved(works, settings.repeats)
    name, faster = "1x1 convolution with gradients", times["convolution"].median / times["product"].median
    note = f"{inputs} to {outputs} channels, {settings.batch_size} x {side} x {side} positions"
    return [
        times["product"].row(f"{name}, matrix product", ratio=faster, versus="XLA's convolution", note=note),
        times["convolution"].row(f"{name}, XLA's convolution", note=note),
    ]


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _squares_gradient(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Compiled value and gradients of the sum of a function's squares."""
    return jax.jit(jax.value_and_grad(lambda *args: jnp.square(function(*args)).sum(), argnums=(0, 1)))


def _waited(function: Callable[..., Any], *args: jax.Array) -> Any:
    return jax.block_until_ready(function(*args))


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
        parted = partition(random_variables(method), method)
        config = published_config(settings, "cam").optimizer
        optimizer = polynomial_sgd(
            {path: method.group(tuple(path.split("/"))) for path in parted.trainable},
            learning_rate=1e-6,  # of random weights, so that the loss stays finite for any number of steps
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            power=config.power,
            max_step=15 * _STEPS_PER_EPOCH,
        )
        state = first_state(parted, optimizer, method)
        # Copies, for the step donates its state and a CPU device may share NumPy's memory.
        self._state = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=replicated(mesh))(state)
        batch = put_batch(random_batch(images, settings.crop), mesh, accumulation=1)
        self._rest = (jax.device_put(parted.frozen, replicated(mesh)), batch, jax.random.key(0))
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


def random_batch(images: int, crop: int) -> dict[str, np.ndarray]:
    """Crops and labels as the loader makes them, with drawn values."""
    rng = np.random.default_rng(0)
    labels = (rng.random((images, NUM_CLASSES)) < 0.1).astype(np.float32)
    labels[np.arange(images), rng.integers(0, NUM_CLASSES, images)] = 1
    return {
        "image": rng.integers(0, 256, (images, crop, crop, 3), dtype=np.uint8),
        "box": np.tile(np.array([0, crop, 0, crop], np.int32), (images, 1)),
        "labels": labels,
        "keep": rng.integers(0, 2, (images, crop, crop), dtype=np.uint8),  # of CPN
    }
