"""Random walks that carry class scores along affinities: AffinityNet's (psa) and IRN's.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly Supervised
Semantic Segmentation", CVPR 2018; J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance
Segmentation with Inter-pixel Relations", CVPR 2019 (IRN). Both square a dense matrix between all pixels
eight times; here the scores themselves go 2^8 sparse steps, or a polynomial does as much in fewer.
"""

from dataclasses import dataclass
from math import exp, lgamma, log
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from wsss_jax.errors import ConfigError
from wsss_jax.ops.stencil import Offsets, Transition, feature_affinities, half_offsets, pairs, path_affinities

WalkMethod = Literal["stencil", "chebyshev"]


@dataclass(frozen=True, kw_only=True)
class WalkSettings:
    """How far a walk goes; the names are those of the configuration's section `walk`.

    Attributes:
      beta: power of the affinities; higher makes the walk keep to strong ones. psa 8, IRN 10.
      logt: the walk has 2^logt steps.
      method: 'stencil' takes every step; 'chebyshev' sums far fewer terms, see `walk_chebyshev`.
      tolerance: of 'chebyshev'.
    """

    beta: float
    logt: int
    method: WalkMethod = "chebyshev"
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        if self.method not in ("stencil", "chebyshev"):
            raise ConfigError(f"walk.method is {self.method!r}: must be 'stencil' or 'chebyshev'")
        if self.beta <= 0 or not 0 <= self.logt <= 16 or not 0 < self.tolerance < 1:
            raise ConfigError(
                f"walk.beta {self.beta}, logt {self.logt}, tolerance {self.tolerance}: beta must be positive,"
                " logt an integer of 0..16 and tolerance between 0 and 1"
            )

    def describe(self) -> str:
        """Such as '2^8 steps (chebyshev), beta 8'."""
        return f"2^{self.logt} steps ({self.method}), beta {self.beta:g}"


def psa_affinities(features: jax.Array, sizes: jax.Array, radius: int) -> jax.Array:
    """AffinityNet's features float32[B, H, W, D], valid in int32[B, 2] sizes -> half float32[B, N, H, W]."""
    offsets = half_offsets(radius)
    exist = pairs(offsets, sizes, (features.shape[1], features.shape[2]), crop=radius - 1)
    return jnp.where(exist, feature_affinities(features, offsets), 0)


def irn_affinities(edges: jax.Array, sizes: jax.Array, radius: int) -> jax.Array:
    """IRN's boundary map float32[B, H, W] of 0..1, valid in int32[B, 2] sizes -> half float32[B, N, H, W]."""
    offsets = half_offsets(radius)
    exist = pairs(offsets, sizes, (edges.shape[1], edges.shape[2]))
    return jnp.where(exist, path_affinities(edges, offsets), 0)


def psa_walk(scores: jax.Array, half: jax.Array, radius: int, settings: WalkSettings) -> jax.Array:
    """psa's walk of scores float32[B, K, H, W], background among them, along `psa_affinities`."""
    return random_walk(scores, half**settings.beta, half_offsets(radius), settings)


def irn_walk(
    cams: jax.Array, edges: jax.Array, sizes: jax.Array, radius: int, settings: WalkSettings
) -> jax.Array:
    """IRN's walk: CAMs float32[B, K, H, W] start weaker on edges float32[B, H, W], and go along
    `irn_affinities`."""
    half = irn_affinities(edges, sizes, radius) ** settings.beta
    return random_walk(cams * (1 - edges[:, None]), half, half_offsets(radius), settings)


def random_walk(scores: jax.Array, half: jax.Array, offsets: Offsets, settings: WalkSettings) -> jax.Array:
    """Takes 2^logt steps with affinities already raised to beta: [B, K, H, W] -> [B, K, H, W]."""
    steps = 2**settings.logt
    if settings.method == "stencil":
        return walk_exact(scores, half, offsets, steps)
    return walk_chebyshev(scores, half, offsets, steps, settings.tolerance)


def walk_exact(scores: jax.Array, half: jax.Array, offsets: Offsets, steps: int) -> jax.Array:
    """x (A D^-1)^steps, step by step; see `ops.stencil.Transition` for the arguments' shapes."""
    transition = Transition(half, offsets)
    y = lax.fori_loop(0, steps, lambda _, y: transition.step(y), transition.enter(scores))
    return transition.leave(y)


def walk_chebyshev(
    scores: jax.Array, half: jax.Array, offsets: Offsets, steps: int, tolerance: float = 1e-7
) -> jax.Array:
    """x (A D^-1)^steps by the first terms of its Chebyshev series: 85 of 256 at the default tolerance.

    S = D^-1/2 A D^-1/2 has eigenvalues in [-1, 1], where S^t = sum of c_k T_k(S) with positive c_k that add
    up to 1 and fall quickly beyond sqrt(t); the first ones are used, until the others add up to less than
    `tolerance`. Beside float32's rounding, the error at pixel p is then at most

        tolerance * ||D^1/2 x|| / sqrt(D_p),    D_p = 1 + the affinities of p, at most 1 + 2 N,

    for each row x, in the Euclidean norm over its pixels; in practice it is far below.
    """
    series = chebyshev_series(steps, tolerance)
    coefficients = jnp.asarray(series, jnp.float32)
    transition = Transition(half, offsets)
    before = transition.enter(scores)
    if len(series) == 1:
        return transition.leave(coefficients[0] * before)
    now = transition.step(before)
    total = coefficients[0] * before + coefficients[1] * now

    def term(k: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        before, now, total = state
        following = 2 * transition.step(now) - before
        return now, following, total + coefficients[k] * following

    return transition.leave(lax.fori_loop(2, len(series), term, (before, now, total))[2])


def chebyshev_series(power: int, tolerance: float) -> np.ndarray:
    """float64[n], the coefficients of T_0 .. T_(n-1) in x^power, those left out adding up to < tolerance."""
    orders = np.arange(power % 2, power + 1, 2)

    def coefficient(k: int) -> float:
        # 2^(1 - power) times `power` over (power - k) / 2, by logarithms; T_0 counts half
        below, above = (power - k) / 2, (power + k) / 2
        size = lgamma(power + 1) - lgamma(below + 1) - lgamma(above + 1) + (1 - power) * log(2)
        return exp(size) * (0.5 if k == 0 else 1)

    values = np.array([coefficient(int(k)) for k in orders])
    tails = np.cumsum(values[::-1])[::-1]  # of each order and those above
    kept = max(1, int((tails >= tolerance).sum()))
    series = np.zeros(int(orders[kept - 1]) + 1)
    series[orders[:kept]] = values[:kept]
    return series
