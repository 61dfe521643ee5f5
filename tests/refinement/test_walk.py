"""Random walks against IRN's program, against dense matrices, and in padded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import relative
from tests.ops.test_stencil import SHAPE, dense, random_half, seeds, sizes
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.errors import ConfigError
from wsss_jax.ops.stencil import half_offsets
from wsss_jax.refinement.pseudo import upsample
from wsss_jax.refinement.walk import (
    WalkSettings,
    chebyshev_series,
    irn_affinities,
    irn_walk,
    psa_affinities,
    psa_walk,
    walk_chebyshev,
    walk_exact,
)

METHODS = ("stencil", "chebyshev")
GRID = (12, 15)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "irn_walk.npz")


def walked_as_irn(golden, walk):
    run = jax.jit(lambda cams, edges: irn_walk(cams, edges, jnp.array([GRID]), 5, walk))
    return run(golden["cams"][None], golden["edge"])


def test_affinities_along_paths_are_irns(golden):
    """IRN lists them by path length, for sources row by row in a grid padded at left, right and bottom."""
    directions = np.load(GOLDEN / "irn_paths.npz")["r5_search_dst"]
    H, W = GRID
    half = np.asarray(jax.jit(irn_affinities, static_argnums=2)(golden["edge"], np.array([GRID]), 5))[0]
    planes = golden["sparse_affinity"][0].reshape(34, H + 1, W + 2)[:, :H, 1 : W + 1]
    for plane, direction in zip(planes, directions.tolist(), strict=True):
        found = half[half_offsets(5).index(tuple(direction))]
        np.testing.assert_allclose(found, plane, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("beta", "logt", "key"), [(10, 8, "rw"), (4, 3, "rw_beta4_exp3")])
def test_walk_is_irns(golden, method, beta, logt, key):
    walk = WalkSettings(beta=beta, logt=logt, method=method)
    found = walked_as_irn(golden, walk)
    assert relative(found[0], golden[key][:, 0]) < 1e-4


def test_enlarged_scores_and_labels_are_irns(golden):
    walk = WalkSettings(beta=10, logt=8)
    scores = walked_as_irn(golden, walk)[0]
    planes = upsample(np.asarray(scores), 4, tuple(golden["img_size"]))
    planes /= planes.max()  # one maximum for all classes
    assert relative(planes, golden["rw_up"]) < 1e-4
    for percent in (25, 28):
        labels = ClassMaps(golden["keys"], planes).labels(percent / 100)
        np.testing.assert_array_equal(labels, golden[f"label_bg{percent}"])


exact = jax.jit(lambda x, half, steps: walk_exact(x, half, half_offsets(4), steps))
series = jax.jit(
    lambda x, half, tolerance: walk_chebyshev(x, half, half_offsets(4), 64, tolerance), static_argnums=2
)


@settings(max_examples=30, deadline=None)
@given(sizes, st.integers(0, 7), seeds)
def test_all_steps_are_the_power_of_the_dense_matrix(size, logt, seed):
    rng = np.random.default_rng(seed)
    half = random_half(rng, size, 4)
    matrix = dense(half[0], half_offsets(4))
    power = np.linalg.matrix_power(matrix / matrix.sum(0), 2**logt)
    x = rng.random((1, 2, *SHAPE)).astype(np.float32)
    found = np.asarray(exact(x, half, 2**logt)).reshape(2, -1)
    assert relative(found, x.reshape(2, -1) @ power) < 3e-5


@settings(max_examples=30, deadline=None)
@given(sizes, st.sampled_from([1e-1, 1e-2, 1e-3]), seeds)
def test_the_chebyshev_series_keeps_its_bound(size, tolerance, seed):
    rng = np.random.default_rng(seed)
    half = random_half(rng, size, 4) ** 8
    matrix = dense(half[0], half_offsets(4))
    degree = matrix.sum(0)
    x = (rng.random((1, 1, *SHAPE)) < 0.3).astype(np.float32)
    wanted = x.reshape(-1) @ np.linalg.matrix_power(matrix / degree, 64)
    found = np.asarray(series(x, half, tolerance)).reshape(-1)
    bound = tolerance * np.linalg.norm(np.sqrt(degree) * x.reshape(-1)) / np.sqrt(degree)
    rounding = 1e-5 * max(1, np.abs(wanted).max())
    assert (np.abs(found - wanted) <= bound + rounding).all()


@pytest.mark.parametrize("power", [1, 2, 3, 16, 255])
def test_the_whole_series_is_the_power(power):
    x = np.linspace(-1, 1, 101)
    series = chebyshev_series(power, 1e-300)
    np.testing.assert_allclose(np.polynomial.chebyshev.chebval(x, series), x**power, atol=1e-12)


def test_the_series_is_as_short_as_it_promises():
    assert len(chebyshev_series(256, 1e-7)) == 85
    assert len(chebyshev_series(256, 0.9)) < len(chebyshev_series(256, 1e-3)) < 85


@pytest.mark.parametrize("method", METHODS)
def test_pictures_in_padded_batches_are_walked_as_alone(method):
    rng = np.random.default_rng(0)
    sizes = np.array([[14, 17], [1, 12], [14, 3]], np.int32)
    features = rng.standard_normal((3, 15, 22, 8)).astype(np.float32)  # garbage in the padding too
    scores = rng.random((3, 2, 15, 22)).astype(np.float32)
    walk = WalkSettings(beta=2, logt=5, method=method)

    @jax.jit
    def propagated(features, sizes, scores):
        return psa_walk(scores, psa_affinities(features, sizes, 4), 4, walk)

    together = propagated(features, sizes, scores)
    for i, (h, w) in enumerate(sizes):
        alone = propagated(features[i : i + 1, :h, :w], sizes[i : i + 1], scores[i : i + 1, :, :h, :w])
        assert relative(together[i, :, :h, :w], alone[0]) < 1e-5


def test_a_cell_without_pairs_keeps_its_scores():
    """psa's grid has no pairs for the corners, nor any at all in images narrower than 9 positions."""
    features, sizes = jnp.ones((1, 9, 8, 2)), jnp.array([[9, 8]])
    scores = jnp.arange(72.0).reshape(1, 1, 9, 8)
    walk = WalkSettings(beta=8, logt=8)
    propagated = jax.jit(lambda f: psa_walk(scores, psa_affinities(f, sizes, 5), 5, walk))(features)
    np.testing.assert_allclose(propagated, scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"beta": 0}, "beta 0"), ({"logt": 17}, "logt 17"), ({"method": "dense"}, "'dense'.*'stencil'")],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        WalkSettings(**{"beta": 8, "logt": 8, **changes})
