"""The pairs that IRN learns from, against its program's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import batch_loss
from wsss_jax.systems.irn.pairs import EPSILON, directions, pair_terms, pairs_of
from wsss_jax.task import Outcome


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "irn_loss.npz")


def of_direction(radius, index, boundary, field, labels):
    way = directions(radius)
    return pairs_of(boundary, field, labels, way.offsets[index], way.paths[index], radius - 1)


def test_directions_and_paths_are_irns():
    published = np.load(GOLDEN / "irn_paths.npz")
    for radius in (5, 10):
        ends, way = published[f"r{radius}_search_dst"], directions(radius)
        assert sorted(map(tuple, ends.tolist())) == sorted(map(tuple, way.offsets.tolist()))
        starts = np.cumsum([0, *published[f"r{radius}_path_lengths"]])
        for end, first, last in zip(ends.tolist(), starts[:-1], starts[1:], strict=True):
            path = {tuple(p) for p in published[f"r{radius}_path_coords"][first:last].tolist()}
            assert path == {tuple(p) for p in way.paths[way.offsets.tolist().index(end)].tolist()}


def test_kinds_of_pairs_are_irns(golden):
    """Of labels at every fourth pixel, in IRN's order of directions."""
    labels = jnp.asarray(golden["label_reduced"])
    ends = np.load(GOLDEN / "irn_paths.npz")["r5_search_dst"].tolist()
    found = jax.jit(lambda i: of_direction(5, i, labels * 0.0, labels[..., None] * 0.0, labels)[:3])
    order = [directions(5).offsets.tolist().index(end) for end in ends]
    for place, index in enumerate(order):
        for name, planes in zip(("bg_pos", "fg_pos", "neg"), found(index), strict=True):
            np.testing.assert_array_equal(planes.reshape(2, -1), golden[name][:, place])


def test_the_loss_of_a_row_of_positions_by_hand():
    """Radius 2 has the directions (0, 1), (1, -1), (1, 0) and (1, 1); all pairs but two are unknown."""
    labels = np.full((1, 2, 4), 255, np.uint8)
    labels[0, 0, 1:] = (3, 3, 0)  # (0, 1) and (0, 2) are of one class, (0, 2) and (0, 3) not
    logits = np.full((1, 2, 4), -20.0, np.float32)
    logits[0, 0, 2] = 0  # a boundary of 1/2
    field = np.zeros((1, 2, 4, 2), np.float32)
    field[0, 0, 1] = (0.25, 3)
    terms = pair_terms(jnp.asarray(logits), jnp.asarray(field), jnp.asarray(labels), 2)
    loss, means = batch_loss(Outcome(terms), EPSILON)
    np.testing.assert_allclose(means["loss_fg"], np.log(2), rtol=1e-4)
    np.testing.assert_allclose(means["loss_neg"], np.log(2), rtol=1e-4)
    np.testing.assert_allclose(means["loss_dp_fg"], (0.25 + 2) / 2, rtol=1e-4)  # 3 less the 1 between them
    assert means["loss_bg"] == means["loss_dp_bg"] == 0
    np.testing.assert_allclose(loss, np.log(2) * (1 / 4 + 1 / 2) + 1.125 / 2, rtol=1e-4)


def test_memory_does_not_grow_with_the_directions():
    """Radius 10 has 9 times the directions of radius 4; the gradient needs as much memory for both."""

    def temporary(radius):
        args = (jnp.zeros((2, 64, 64)), jnp.zeros((2, 64, 64, 2)), jnp.zeros((2, 64, 64), jnp.uint8))

        def loss(logits, field, labels):
            return batch_loss(Outcome(pair_terms(logits, field, labels, radius)), EPSILON)[0]

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(10) < 2.5 * temporary(4)  # a direction's path is 2.6 times as long
