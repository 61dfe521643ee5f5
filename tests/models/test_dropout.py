"""Dropout: what is drawn, for whom, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsss_jax.models.dropout import Dropout, Dropout2d, DropPath

KEYS = jax.random.split(jax.random.key(3), 64)
X = jnp.ones((64, 3, 5, 16))
SHARED = {Dropout: (), Dropout2d: (1, 2), DropPath: (1, 2, 3)}
"""Axes that share a draw."""


@pytest.mark.parametrize("kind", SHARED)
def test_what_stays_is_enlarged_and_what_shares_a_draw_stays_or_goes_together(kind):
    dropped = np.asarray(kind(0.25, site=0)(X, KEYS))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    draws = np.moveaxis(dropped, SHARED[kind], range(len(SHARED[kind]))).reshape(
        int(np.prod([X.shape[axis] for axis in SHARED[kind]])), -1
    )
    assert (draws == draws[0]).all()
    count = draws.shape[1]  # independent draws; five standard deviations of their mean
    assert abs((draws[0] > 0).mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / count)


@pytest.mark.parametrize("kind", SHARED)
def test_draws_are_the_images_own(kind):
    """Whatever else is in the batch."""
    layer = kind(0.5, site=2)
    whole = layer(X, KEYS)
    np.testing.assert_array_equal(layer(X[5:9], KEYS[5:9]), whole[5:9])
    assert len(np.unique(np.asarray(whole).reshape(64, -1), axis=0)) > 1


@pytest.mark.parametrize("kind", SHARED)
def test_sites_draw_apart(kind):
    assert not np.array_equal(kind(0.5, site=0)(X, KEYS), kind(0.5, site=1)(X, KEYS))


@pytest.mark.parametrize("kind", SHARED)
def test_without_keys_or_rate_nothing_changes(kind):
    assert kind(0.5, site=0)(X, None) is X
    assert kind(0.0, site=0)(X, KEYS) is X


def test_tokens_lose_their_branch_as_a_whole():
    """[B, N, C], as transformers have it, in bfloat16."""
    found = DropPath(0.5, site=0)(jnp.ones((64, 7, 4), jnp.bfloat16), KEYS)
    assert found.dtype == jnp.bfloat16
    assert (found == found[:, :1, :1]).all()


def test_channels_are_drawn_as_in_checkpoints_of_runs_that_go_on():
    """A resumed run draws what an uninterrupted one would: shape and order of draws are fixed."""
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 7))(KEYS)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 0.7, (16,)))(keys)
    found = Dropout2d(0.3, site=7)(X, KEYS)
    np.testing.assert_array_equal(found[:, 0, 0] > 0, keep)
