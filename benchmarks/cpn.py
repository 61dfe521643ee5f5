"""CPN: three views in one forward pass or in three; pixel correlation in blocks or with all pairs at once.

The training step is that of `benchmarks.train`. Memory is what the compiled program asks for besides its
arguments and results (`memory_analysis`), at the size of the published training, whatever the settings: 4
crops of 448 in three views, 56 x 56 positions, 192 channels, 21 maps. Nothing of that size is run.
"""

from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import method_of
from benchmarks.row import Row, Settings
from benchmarks.timing import interleaved
from benchmarks.train import Step, compilation_rows
from wsss_jax.ops.correlation import correlate, unit_vectors
from wsss_jax.systems.cpn.network import CpnScores, score_cpn
from wsss_jax.systems.cpn.task import Cpn
from wsss_jax.task import Variables

_PUBLISHED = (12, 56, 56)  # views of a batch, rows and columns of positions
_CHANNELS, _MAPS = 192, 21


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures; two rows of images per second, two of bytes and two of seconds."""
    settings = settings or Settings()
    return [*_step_rows(settings), *memory_rows(*_PUBLISHED), *_time_rows(settings)]


class ThreePasses(Cpn):
    """CPN as its authors run it: each view by itself."""

    def _score(self, variables: Variables, views: jax.Array, keys: jax.Array | None) -> CpnScores:
        each = [
            score_cpn(self.network, variables, views[:, i], keys=None if keys is None else keys[:, i])
            for i in range(views.shape[1])
        ]
        return CpnScores(*(jnp.stack(x, 1).reshape(-1, *x[0].shape[1:]) for x in zip(*each, strict=True)))


def _step_rows(settings: Settings) -> list[Row]:
    images = settings.batch_size * jax.device_count()
    one: Any = method_of(settings, "cpn")
    three = ThreePasses(**{field.name: getattr(one, field.name) for field in fields(one)})
    steps = {"one pass": Step(settings, one, images), "three passes": Step(settings, three, images)}
    times = interleaved(steps, settings.repeats)
    losses = [float(step().totals["loss"]) for step in steps.values()]
    size = f"width {settings.width:g}, {images} crops of {settings.crop}"
    note = f"{size}; losses differ by {abs(losses[0] / losses[1] - 1):.0e}"
    faster = times["three passes"].median / times["one pass"].median
    compiled = {how: step.compile_seconds for how, step in steps.items()}
    step = "cpn training step"
    return [
        times["one pass"].per_second(
            images, f"{step}, one pass", "images/s", ratio=faster, versus="three passes", note=note
        ),
        times["three passes"].per_second(images, f"{step}, three passes", "images/s", note=size),
        *compilation_rows(step, compiled),
    ]


def all_pairs(maps: jax.Array, features: jax.Array) -> jax.Array:
    """`ops.correlation.correlate` with the whole matrix of pairs, as CPN's code has it."""
    B, h, w, C = maps.shape
    vectors, values = unit_vectors(features).reshape(B, h * w, -1), maps.reshape(B, h * w, C)
    alike = jax.nn.relu(jnp.einsum("bid,bjd->bij", vectors, vectors))
    alike = alike / (alike.sum(1, keepdims=True) + 1e-5)
    return jnp.einsum("bij,bic->bjc", alike, values).reshape(maps.shape)


def memory_rows(views: int, h: int, w: int) -> list[Row]:
    """Bytes that the value and its gradient by the features need, in blocks and with all pairs."""
    shapes = [jax.ShapeDtypeStruct((views, h, w, n), jnp.float32) for n in (_MAPS, _CHANNELS)]
    megabytes = {}
    for how, function in (("blocks", correlate), ("all pairs", all_pairs)):
        analysis: Any = _gradient(function).lower(*shapes).compile().memory_analysis()
        megabytes[how] = analysis.temp_size_in_bytes / 1e6
    name, note = "pixel correlation, memory of value and gradient", f"{views} views of {h} x {w} positions"
    saved = megabytes["all pairs"] / megabytes["blocks"]
    return [
        Row(
            name=f"{name}, blocks", value=megabytes["blocks"], unit="MB",
            ratio=saved, versus="all pairs", note=note,
        ),
        Row(name=f"{name}, all pairs", value=megabytes["all pairs"], unit="MB", note=note),
    ]  # fmt: skip


def _time_rows(settings: Settings) -> list[Row]:
    rng, side = np.random.default_rng(0), -(-settings.crop // 8)
    views = 3 * settings.batch_size
    maps, features = (jnp.asarray(rng.random((views, side, side, n), np.float32)) for n in (_MAPS, _CHANNELS))
    functions = {"blocks": _gradient(correlate), "all pairs": _gradient(all_pairs)}
    works = {
        how: lambda function=function: jax.block_until_ready(function(maps, features))
        for how, function in functions.items()
    }
    found, wanted = (work() for work in works.values())
    gap = float(jnp.abs(found - wanted).max() / jnp.abs(wanted).max())
    times = interleaved(works, settings.repeats)
    name, note = "pixel correlation, value and gradient", f"{views} views of {side} x {side} positions"
    faster = times["all pairs"].median / times["blocks"].median
    note_of_blocks = f"{note}; gradients differ by {gap:.0e} of the largest"
    return [
        times["blocks"].row(f"{name}, blocks", ratio=faster, versus="all pairs", note=note_of_blocks),
        times["all pairs"].row(f"{name}, all pairs", note=note),
    ]


def _gradient(function: Any) -> Any:
    """Compiled gradient of a function of (maps, features) by the features."""
    return jax.jit(jax.grad(lambda maps, features: jnp.square(function(maps, features)).sum(), argnums=1))
