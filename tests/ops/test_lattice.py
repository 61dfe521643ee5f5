"""The sorted lattice against one that is kept in a dictionary, and what must hold of any."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.ops import lattice
from wsss_jax.ops.lattice import build, count, embed, filter_values, sort_order, touched

POINTS, SIZE = 40, 512


def plain_filter(features, values):
    """The filter by the papers' words in float64, lattice points in a dictionary; and how many there are."""
    d = features.shape[1]
    basis = np.sqrt(2 / 3) * (d + 1) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])
    corners = [_simplex(_elevated(f * basis, d), d) for f in features.astype(np.float64)]
    points = {key: np.zeros(values.shape[1]) for corner in corners for key in corner}
    for corner, value in zip(corners, values, strict=True):
        for key, weight in corner.items():
            points[key] = points[key] + weight * value
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        read = points.get
        points = {
            key: value
            + sum(0.5 * read(tuple(np.add(key, sign * step)), np.zeros(values.shape[1])) for sign in (1, -1))
            for key, value in points.items()
        }
    return np.stack([sum(w * points[key] for key, w in corner.items()) for corner in corners]), len(points)


def _elevated(scaled, d):
    matrix = np.array(
        [[1.0 if i <= j else (-(j + 1.0) if i == j + 1 else 0.0) for j in range(d)] for i in range(d + 1)]
    )
    return matrix @ scaled


def _simplex(y, d):
    """Barycentric weights by lattice point: the corners are the nearest of remainder 0 and those above it."""
    base = np.round(y / (d + 1)) * (d + 1)
    order = np.argsort(-(y - base), kind="stable")
    excess = round(base.sum() / (d + 1))
    for place in order[d + 1 - excess :] if excess > 0 else ():
        base[place] -= d + 1
    for place in order[:-excess] if excess < 0 else ():
        base[place] += d + 1
    rest = y - base
    order = np.argsort(-rest, kind="stable")
    result, key = {}, base.copy()
    sorted_rest = np.append(rest[order], rest[order[0]] - (d + 1))
    # Corner k adds 1 to all and takes d + 1 from the k coordinates that lie lowest.
    for k in range(d + 1):
        lowest = order[d + 1 - k :]
        key = base + k
        key[lowest] -= d + 1
        upper = sorted_rest[d - k]
        lower = sorted_rest[d + 1 - k] if k else sorted_rest[0] - (d + 1)
        result[tuple(key.astype(int))] = (upper - lower) / (d + 1)
    return result


def sorted_lattice(features, size=SIZE):
    made, number = lattice_of(features, size)
    return made, int(number)


@functools.partial(jax.jit, static_argnums=1)
def lattice_of(features, size):
    corners = embed(features, jnp.ones(len(features), bool))
    order = sort_order(corners)
    return build(corners, order, size), count(corners, order)


filtering = jax.jit(filter_values)
embedding = jax.jit(embed)


@jax.jit
def filtered(features, values, valid):
    corners = embed(features, valid)
    order = sort_order(corners)
    return filter_values(build(corners, order, SIZE), values), count(corners, order), corners.weights


def random_points(seed, d, spread):
    rng = np.random.default_rng(seed)
    features = (spread * rng.random((POINTS, d))).astype(np.float32)
    return features, rng.standard_normal((POINTS, 3)).astype(np.float32)


def alike(found, wanted):
    """Equal but for rounding, of values of about 1 or of their sums."""
    np.testing.assert_allclose(found, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("d", [2, 5])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.0, 0.5, 2.0, 6.0]))
def test_it_filters_as_a_lattice_in_a_dictionary(d, seed, spread):
    features, values = random_points(seed, d, spread)
    expected, points = plain_filter(features, values)
    result, number, weights = filtered(features, values, np.ones(POINTS, bool))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert weights.min() > -1e-5
    if spread:  # all points at the origin: ties, and which of the simplices is taken does not matter
        assert number == points
    alike(result, expected)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_points_that_are_not_valid_leave_no_trace(seed):
    features, values = random_points(seed, 5, 3.0)
    valid = np.random.default_rng(seed).random(POINTS) < 0.6
    alone, points = plain_filter(features[valid], values[valid])
    result, number, _ = filtered(features, np.where(valid[:, None], values, 1e6), valid)
    assert number == points
    alike(np.asarray(result)[valid], alone)
    assert not np.asarray(result)[~valid].any()


def test_a_larger_lattice_shared_by_part_of_its_points_filters_as_their_own():
    features, values = random_points(0, 2, 5.0)
    valid = np.arange(POINTS) % 3 > 0
    shared, _ = sorted_lattice(features)
    exists = touched(shared, jnp.asarray(valid))
    result = filtering(shared, jnp.asarray(values * valid[:, None]), exists)
    expected, points = plain_filter(features[valid], values[valid])
    assert int(exists.sum()) == points
    alike(np.asarray(result)[valid], expected)


def test_the_filter_backwards_is_its_transpose():
    features, _ = random_points(1, 5, 2.0)
    forward, _ = sorted_lattice(features)
    backward = forward._replace(neighbours=forward.neighbours[::-1])
    identity = jnp.eye(POINTS)
    np.testing.assert_allclose(filtering(forward, identity), filtering(backward, identity).T, atol=1e-6)


def test_any_sufficient_size_gives_the_same():
    features, values = random_points(2, 5, 4.0)
    exact, number = sorted_lattice(features)
    for size in (number, 6 * POINTS):
        other, _ = sorted_lattice(features, size=size)
        np.testing.assert_array_equal(filtering(exact, values), filtering(other, values))


def test_more_pairs_than_a_block_holds_are_summed():
    features, values = np.zeros((POINTS, 2), np.float32), np.ones((POINTS, 1), np.float32)
    result, number = sorted_lattice(features)
    assert number == 3 and POINTS > lattice.BLOCK
    # One corner has all the weight; half of a half of a half comes back to it by way of the others.
    np.testing.assert_allclose(filtering(result, values), POINTS * (1 + 1 / 8), rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(data=st.data(), d=st.sampled_from([2, 5]))
def test_packed_coordinates_come_back_in_order(data, d):
    most = lattice.largest_coordinate(d) + d
    coordinate = st.integers(-most, most)
    keys = np.array(data.draw(st.lists(st.tuples(*[coordinate] * d), min_size=2, max_size=5)), np.int32)
    high, low = lattice._pack(jnp.asarray(keys))
    np.testing.assert_array_equal(lattice._unpack(high, low, d), keys)
    words = [(int(a) << 32) + int(b) for a, b in zip(high, low, strict=True)]
    for (a, x), (b, y) in itertools.combinations(zip(words, map(tuple, keys), strict=True), 2):
        assert (a < b) == (x < y)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), d=st.sampled_from([2, 5]), spread=st.floats(0.1, 30))
def test_no_coordinate_reaches_beyond_the_bound(seed, d, spread):
    rng = np.random.default_rng(seed)
    most = spread * rng.random(d)
    features = (most * rng.integers(0, 2, (POINTS, d))).astype(np.float32)
    corners = embedding(features, np.ones(POINTS, bool))
    keys = lattice._unpack(corners.high, corners.low, d)
    assert np.abs(keys).max() <= lattice.reach(most) + 1
