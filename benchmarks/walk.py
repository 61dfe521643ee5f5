"""Random walks as stencils against squaring the dense matrix of all pairs eight times, as psa and IRN do.

Images of 375 x 500: positions 8 pixels apart for psa, 4 for IRN, whose dense walk is extrapolated from psa's
by the cube of the number of positions. Features, edges and scores are random; no speed depends on them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved
from wsss_jax.errors import RunError
from wsss_jax.ops.stencil import half_offsets
from wsss_jax.refinement.walk import WalkMethod, WalkSettings, irn_affinities, psa_affinities, random_walk

Grid = tuple[int, int]

_RADIUS, _LOGT = 5, 8
_PSA_BETA, _IRN_BETA = 8.0, 10.0
_CHANNELS = 448  # of AffinityNet's features
_ALIKE = 1e-3
_OFFSETS = half_offsets(_RADIUS)


def rows(settings: Settings | None = None, psa: Grid = (47, 63), irn: Grid = (94, 125)) -> list[Row]:
    """Measures seconds per image of both walks, affinities given or built, and the memory they ask for.

    Raises:
      RunError: the two sides do not give the same scores.
    """
    settings = settings or Settings()
    times = _time_psa(settings, psa)
    dense = times["dense"].median
    result = [_row(f"psa walk, {name}", times[name], dense, psa) for name in times if name != "dense"]
    result += [times["dense"].row("psa walk, dense", note=f"{_positions(psa)}, 21 score rows, 8 squarings")]
    cubes = dense * (np.prod(irn) / np.prod(psa)) ** 3
    for name, time in _time_irn(settings, irn).items():
        result.append(_row(f"irn walk, {name}", time, float(cubes), irn, "dense, extrapolated"))
    note = f"{_positions(irn)}, from psa's by the cube of the number of positions"
    result.append(Row(name="irn walk, dense, extrapolated", value=float(cubes), unit="s", note=note))
    return [*result, _memory("psa walk, memory", psa, 3), _memory("irn walk, memory", irn, 2)]


def dense_matrix(half: np.ndarray) -> np.ndarray:
    """I + half + half^T, float32[N, N], of affinities float32[34, h, w]."""
    h, w = half.shape[1:]
    matrix, positions = np.eye(h * w, dtype=np.float32), np.arange(h * w).reshape(h, w)
    for plane, (dy, dx) in zip(half, _OFFSETS, strict=True):
        left, right = max(0, -dx), w - max(0, dx)
        p, q = positions[: h - dy, left:right].ravel(), positions[dy:, left + dx : right + dx].ravel()
        matrix[p, q] = matrix[q, p] = plane[: h - dy, left:right].ravel()
    return matrix


def dense_walk(x: np.ndarray, matrix: np.ndarray, beta: float) -> np.ndarray:
    """psa's arithmetic: powers, columns divided by their sums, eight squarings; x float32[K, h, w]."""
    power = matrix**beta
    power /= power.sum(0)
    for _ in range(_LOGT):
        power = power @ power
    return (x.reshape(len(x), -1) @ power).reshape(x.shape)


def _time_psa(settings: Settings, grid: Grid) -> dict[str, Times]:
    rng = np.random.default_rng(0)
    scores = rng.random((1, 21, *grid)).astype(np.float32)
    features = 0.5 * rng.standard_normal((1, *grid, _CHANNELS)).astype(np.float32)
    sizes = jnp.array([grid])
    build = jax.jit(lambda f: psa_affinities(f, sizes, _RADIUS))
    half = build(features)
    walks = {"chebyshev": _walk("chebyshev", _PSA_BETA), "stencil": _walk("stencil", _PSA_BETA)}
    matrix = dense_matrix(np.asarray(half)[0])
    _check_alike(walks["stencil"](scores, half)[0], dense_walk(scores[0], matrix, _PSA_BETA))
    _check_alike(walks["chebyshev"](scores, half)[0], np.asarray(walks["stencil"](scores, half)[0]))
    present = scores[:, :3]
    works: dict[str, Callable[[], Any]] = {
        "chebyshev, 3 score rows": lambda: walks["chebyshev"](present, half).block_until_ready(),
        "every step, 3 score rows": lambda: walks["stencil"](present, half).block_until_ready(),
        "chebyshev, 21 score rows": lambda: walks["chebyshev"](scores, half).block_until_ready(),
        "affinities and chebyshev, 3 score rows": lambda: walks["chebyshev"](
            present, build(features)
        ).block_until_ready(),
        "dense": lambda: dense_walk(scores[0], matrix, _PSA_BETA),
    }
    return interleaved(works, settings.repeats)


def _time_irn(settings: Settings, grid: Grid) -> dict[str, Times]:
    rng = np.random.default_rng(0)
    scores, edges = rng.random((1, 2, *grid)).astype(np.float32), rng.random((1, *grid)) ** 4
    sizes = jnp.array([grid])
    build = jax.jit(lambda e: irn_affinities(e, sizes, _RADIUS))
    half, walk = build(edges.astype(np.float32)), _walk("chebyshev", _IRN_BETA)
    works: dict[str, Callable[[], Any]] = {
        "chebyshev, 2 score rows": lambda: walk(scores, half).block_until_ready(),
        "affinities and chebyshev, 2 score rows": lambda: walk(
            scores, build(edges.astype(np.float32))
        ).block_until_ready(),
    }
    return interleaved(works, settings.repeats)


def _walk(method: WalkMethod, beta: float) -> Any:
    """The compiled walk of scores [1, K, h, w] along affinities [1, 34, h, w]."""
    settings = WalkSettings(beta=beta, logt=_LOGT, method=method)
    return jax.jit(lambda x, half: random_walk(x, half**beta, _OFFSETS, settings))


def _memory(name: str, grid: Grid, planes: int) -> Row:
    """What the compiled walk asks for, arguments and result included, against two dense matrices."""
    scores, half = jnp.zeros((1, planes, *grid)), jnp.zeros((1, len(_OFFSETS), *grid))
    compiled = _walk("chebyshev", _PSA_BETA).lower(scores, half).compile()
    analysis = compiled.memory_analysis()
    used = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    dense = 2 * 4 * int(np.prod(grid)) ** 2
    note = f"{_positions(grid)}, {planes} score rows; dense: {dense / 1e6:,.0f} MB"
    return Row(
        name=name, value=used / 1e6, unit="MB", ratio=dense / used, versus="two dense matrices", note=note
    )


def _row(name: str, time: Times, dense: float, grid: Grid, versus: str = "dense") -> Row:
    return time.row(name, ratio=dense / time.median, versus=versus, note=_positions(grid))


def _positions(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]} positions"


def _check_alike(found: Any, wanted: np.ndarray) -> None:
    difference = float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())
    if not difference < _ALIKE:
        raise RunError(f"two forms of the random walk differ by {difference:.2g} of the largest score: a bug")
