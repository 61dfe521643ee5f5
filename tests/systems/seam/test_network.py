"""SEAM's network against its authors', against the paper's formula, and inside padded arrays."""

import functools

import jax
import numpy as np

from tests.helpers.golden import GOLDEN, NARROW, names
from tests.helpers.networks import golden_variables, narrow_variables, relative
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.systems.cpn.network import score_cpn
from wsss_jax.systems.seam.network import SeamNetwork
from wsss_jax.systems.seam.rule import Seam
from wsss_jax.weights import to_variables
from wsss_jax.weights.mapping import flatten

NETWORK = SeamNetwork(6, width=1 / 16, blocks=(0, 0, 0, 0))
VARIABLES = narrow_variables(Seam(network=NETWORK))["seam"]
IMAGE = np.random.default_rng(0).standard_normal((1, 33, 49, 3)).astype(np.float32)


def test_both_maps_are_those_of_the_authors():
    """Their network with 1/16 of its channels; its 21 classes and the image's 3 colours stay."""
    golden = np.load(GOLDEN / "narrow" / "seam.npz")
    variables = golden_variables(network="infercam_seam", divide=NARROW)
    images = golden["x"].transpose(0, 2, 3, 1)
    scores = jax.jit(SeamNetwork(20, width=1 / NARROW).apply)(variables, images)
    for maps, name, step in ((scores.maps, "cam", 3), (scores.improved, "cam_rv", 2)):
        full = resize_bilinear(maps, images.shape[1:3], align_corners=True)[:, ::step, ::step]
        assert relative(full.transpose(0, 3, 1, 2), golden[name]) < 1e-4


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
    assert relative(np.asarray(scores.improved[0]).reshape(by_hand.shape), by_hand) < 1e-5


def test_padding_changes_nothing():
    score = jax.jit(functools.partial(score_cpn, NETWORK))
    alone = score(VARIABLES, IMAGE)
    padded = np.full((1, 48, 56, 3), 9, np.float32)
    padded[:, :33, :49] = IMAGE
    together = score(VARIABLES, padded, np.array([[33, 49]]))
    assert relative(together.improved[:, :5, :7], alone.improved) < 1e-5
    assert relative(together.logits, alone.logits) < 1e-5


def test_published_network_has_the_published_names_and_shapes():
    shapes = jax.eval_shape(SeamNetwork(20).init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    ours = {path: x.shape for path, x in flatten(shapes)}
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names("infercam_seam").items()}
    assert ours == {path: x.shape for path, x in flatten(to_variables(zeros, "infercam_seam"))}
