"""Neighbourhoods, affinities of pairs and steps of a walk, against dense matrices built pair by pair."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import relative
from wsss_jax.ops.stencil import (
    Transition,
    feature_affinities,
    half_offsets,
    pairs,
    path_affinities,
    path_positions,
    shifted,
)

SHAPE = (9, 11)  # of padded grids; drawn grids have any size within it, so that one program serves them all


def dense(half, offsets):
    """A = I + half + half^T, float64[H W, H W], of one grid float[N, H, W]."""
    _, H, W = half.shape
    matrix = np.eye(H * W)
    for plane, (dy, dx) in zip(np.asarray(half, np.float64), offsets, strict=True):
        for y, x in np.ndindex(H, W):
            if 0 <= y + dy < H and 0 <= x + dx < W:
                p, q = y * W + x, (y + dy) * W + x + dx
                matrix[p, q] = matrix[q, p] = plane[y, x]
    return matrix


@functools.partial(jax.jit, static_argnums=1)
def existing(sizes, radius):
    return pairs(half_offsets(radius), sizes, SHAPE)


def random_half(rng, size, radius):
    """Random affinities of all pairs in a grid of some size inside SHAPE, float32[1, N, 9, 11]."""
    exist = np.asarray(existing(np.array([size]), radius))
    return (rng.random(exist.shape) * exist).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def walk(x, half, radius, steps):
    transition = Transition(half, half_offsets(radius))
    y = jax.lax.fori_loop(0, steps, lambda _, y: transition.step(y), transition.enter(x))
    return transition.leave(y)


@pytest.mark.parametrize(("radius", "name"), [(5, "r5"), (10, "r10")])
def test_offsets_and_paths_are_irns(radius, name):
    golden = np.load(GOLDEN / "irn_paths.npz")
    found = half_offsets(radius)
    destinations = [tuple(int(n) for n in row) for row in golden[f"{name}_search_dst"]]
    assert sorted(found) == sorted(destinations) and len(set(found)) == len(found)
    ends = np.cumsum(golden[f"{name}_path_lengths"])
    for destination, cells in zip(
        destinations, np.split(golden[f"{name}_path_coords"], ends[:-1]), strict=True
    ):
        assert sorted(path_positions(destination)) == sorted(map(tuple, cells.tolist()))


def test_offsets_are_in_psas_order():
    within_row, below = [(0, 1), (0, 2)], [(1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -2), (2, -1), (2, 0)]
    assert half_offsets(3) == (*within_row, *below, (2, 1), (2, 2))


def test_shifting_looks_in_the_offsets_direction():
    x = jnp.arange(12.0).reshape(1, 3, 4)
    np.testing.assert_array_equal(
        shifted(x, [(1, -1)], fill=-1)[0, 0], [[-1, 4, 5, 6], [-1, 8, 9, 10], [-1, -1, -1, -1]]
    )


def test_psas_pairs_start_in_the_cropped_grid_and_irns_everywhere():
    offsets = half_offsets(2)  # (0, 1), (1, -1), (1, 0), (1, 1)
    sizes = jnp.array([[2, 3]])
    np.testing.assert_array_equal(pairs(offsets, sizes, (3, 4))[0, 0], [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4])
    np.testing.assert_array_equal(
        pairs(offsets, sizes, (3, 4), crop=1)[0].sum((1, 2)), [1, 1, 1, 1]
    )  # the only source is the middle of the first row
    assert not pairs(offsets, jnp.array([[1, 2]]), (3, 4), crop=1).any()


def test_affinity_is_the_exponential_of_the_mean_difference():
    features = np.array([[[[0.0, 1.0], [2.0, 1.0]]]], np.float32)  # one row of two cells, two channels
    found = feature_affinities(jnp.asarray(features), half_offsets(2))
    np.testing.assert_allclose(found[0, 0, 0, 0], np.exp(-1), rtol=1e-6)


def test_gradients_of_affinities_are_those_of_the_plain_formula():
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.standard_normal((2, 5, 6, 3)), jnp.float32)
    offsets = half_offsets(3)
    weights = jnp.asarray(rng.random((2, len(offsets), 5, 6)), jnp.float32)

    def plain(features):
        there = jax.vmap(lambda channel: shifted(channel, offsets), -1, -1)(features)
        return (jnp.exp(-jnp.abs(there - features[:, None]).mean(-1)) * weights).sum()

    found = jax.jit(jax.grad(lambda f: (feature_affinities(f, offsets) * weights).sum()))(features)
    assert relative(found, jax.jit(jax.grad(plain))(features)) < 1e-5


def test_memory_of_affinities_does_not_hold_all_differences():
    """At radius 5, all differences of these features would be 34 times their size."""
    features = jnp.zeros((1, 40, 40, 64))
    loss = jax.jit(jax.grad(lambda f: feature_affinities(f, half_offsets(5)).sum()))
    memory = loss.lower(features).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 12 * features.nbytes


def test_a_path_is_as_passable_as_its_strongest_edge():
    edges = np.zeros((1, 3, 5), np.float32)
    edges[0, 0, 2] = 0.75
    offsets = half_offsets(5)
    found = np.asarray(jax.jit(path_affinities, static_argnums=1)(edges, offsets))[0]
    assert found[offsets.index((0, 4)), 0, 0] == 0.25  # across the edge
    assert found[offsets.index((0, 1)), 0, 0] == 1  # before it
    assert found[offsets.index((0, 4)), 1, 0] == 1  # a row below
    assert found[offsets.index((0, 4)), 0, 1] == 0  # out of the array


sizes = st.tuples(st.integers(1, SHAPE[0]), st.integers(1, SHAPE[1]))
seeds = st.integers(0, 2**31)


@settings(max_examples=30, deadline=None)
@given(sizes, st.sampled_from([2, 4]), seeds)
def test_a_step_is_that_of_the_dense_matrix(size, radius, seed):
    rng = np.random.default_rng(seed)
    half = random_half(rng, size, radius)
    matrix = dense(half[0], half_offsets(radius))
    x = rng.random((1, 2, *SHAPE)).astype(np.float32)
    wanted = x.reshape(2, -1) @ (matrix / matrix.sum(0))
    found = np.asarray(walk(x, half, radius, 1)).reshape(2, -1)
    assert relative(found, wanted) < 1e-5


def test_no_step_changes_nothing():
    rng = np.random.default_rng(0)
    x = rng.random((1, 2, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(walk(x, random_half(rng, (9, 10), 4), 4, 0), x, rtol=1e-6)
