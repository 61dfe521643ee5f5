"""SEAM's network against the formula with the whole matrix of affinities, and inside padded arrays."""

import functools

import jax
import numpy as np

from tests.helpers.golden import names
from tests.helpers.networks import narrow_variables
from wsss_jax.methods.seam import Seam
from wsss_jax.models.cpn import score_cpn
from wsss_jax.models.seam import SeamNetwork
from wsss_jax.weights import to_variables
from wsss_jax.weights.mapping import flatten

NETWORK = SeamNetwork(6, width=1 / 16, blocks=(0, 0, 0, 0))
VARIABLES = narrow_variables(Seam(network=NETWORK))["seam"]
IMAGE = np.random.default_rng(0).standard_normal((1, 33, 49, 3)).astype(np.float32)


def spread_by_hand(maps, features):
    """Section 3.3 of the paper for one image: [h, w, 1 + C] scores and [h, w, D] features -> [h w, 1 + C]."""
    positive = np.maximum(maps, 0)
    spread = np.maximum(positive - 1e-5, 0) / (positive.max((0, 1)) + 1e-5)
    strongest = spread[..., 1:].max(-1, keepdims=True)
    spread[..., 1:][spread[..., 1:] < strongest] = 0
    spread[..., 0] = 1 - strongest[..., 0]
    unit = features.reshape(-1, features.shape[-1])
    unit = unit / (np.linalg.norm(unit, axis=1, keepdims=True) + 1e-5)
    affinity = np.maximum(unit @ unit.T, 0)
    return (affinity / (affinity.sum(0) + 1e-5)).T @ spread.reshape(len(unit), -1)


def test_maps_are_spread_as_the_paper_says():
    keep_all = functools.partial(NETWORK.apply, capture_intermediates=True, mutable=["intermediates"])
    scores, state = jax.jit(keep_all)(VARIABLES, IMAGE)
    f8_3, f8_4 = (np.asarray(state["intermediates"][name]["__call__"][0][0]) for name in ("f8_3", "f8_4"))
    colours = IMAGE[0, ::8, ::8]  # with aligned corners, every eighth pixel of 33 x 49
    side = np.concatenate([colours, np.maximum(f8_3, 0), np.maximum(f8_4, 0)], -1)
    by_hand = spread_by_hand(np.array(scores.maps[0]), side @ VARIABLES["params"]["f9"]["kernel"][0, 0])
    np.testing.assert_allclose(np.asarray(scores.improved[0]).reshape(by_hand.shape), by_hand, atol=1e-5)


def test_padding_changes_nothing():
    score = jax.jit(functools.partial(score_cpn, NETWORK))
    alone = score(VARIABLES, IMAGE)
    padded = np.full((1, 48, 56, 3), 9, np.float32)
    padded[:, :33, :49] = IMAGE
    together = score(VARIABLES, padded, np.array([[33, 49]]))
    np.testing.assert_allclose(together.improved[:, :5, :7], alone.improved, atol=1e-5)
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-5)


def test_published_network_has_the_published_names_and_shapes():
    shapes = jax.eval_shape(SeamNetwork(20).init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    ours = {path: x.shape for path, x in flatten(shapes)}
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names("infercam_seam").items()}
    assert ours == {path: x.shape for path, x in flatten(to_variables(zeros, "infercam_seam"))}
