"""CPN's network against its authors' values, and its two correlations in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.golden import golden_at, names
from tests.helpers.networks import WIDTHS, golden_variables, narrow_cpn, narrow_variables, relative
from wsss_jax.models.resnet38 import ResNet38
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.systems.cpn.network import CpnNetwork, normalised_maps
from wsss_jax.weights import to_variables


@pytest.fixture(scope="module")
def narrow():
    """A narrow network, what scores images by it, and its variables."""
    method = narrow_cpn()
    return method.network, jax.jit(method.network.apply), narrow_variables(method)["cpn"]


@pytest.mark.parametrize("divide", WIDTHS)
def test_both_maps_are_those_of_the_authors(divide):
    golden, step = golden_at("cpn", divide), 1 if divide == 1 else 2  # the narrow one has every second pixel
    network = CpnNetwork(20, width=1 / divide)
    images = golden["x"].transpose(0, 2, 3, 1)
    scores = jax.jit(network.apply)(golden_variables("dev", "cpn", divide), images)
    for maps, name in ((scores.maps, "cam"), (scores.improved, "cam_rv")):
        full = resize_bilinear(maps, images.shape[1:3], align_corners=True).transpose(0, 3, 1, 2)
        assert relative(full[:, :, ::step, ::step], golden[name]) < 1e-4
        if name == "cam":
            assert relative(scores.logits, full.mean((2, 3))) < 1e-4


def test_published_network_has_the_published_names_and_shapes():
    shapes = jax.eval_shape(CpnNetwork(20).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ours = {path: x.shape for path, x in flatten_dict(shapes, sep="/").items()}
    zeros = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names("cpn").items()}
    theirs = {path: x.shape for path, x in flatten_dict(to_variables(zeros, "cpn"), sep="/").items()}
    assert ours == theirs


def softmax(x):
    powers = np.exp(x - x.max(0, keepdims=True))
    return powers / powers.sum(0, keepdims=True)


def by_formula(maps, side, f9, f10):
    """Improved maps [N, K] of one image from the normalised ones and the side branch [N, D], in float64."""
    maps, side, f9, f10 = (x.astype(np.float64) for x in (maps, side, f9, f10))
    shared = side @ f9
    unit = shared / (np.linalg.norm(shared, axis=1, keepdims=True) + 1e-5)
    alike = np.maximum(unit @ unit.T, 0)
    pixels = (maps.T @ (alike / (alike.sum(0, keepdims=True) + 1e-5))).T
    K = maps.shape[1]
    regions = softmax(maps).T @ side  # [K, D]
    keys = np.maximum(regions @ f10, 0).T  # [channels, K], as CPN's code has it
    keys = keys.reshape(K, -1)  # ... and mixes it
    attention = softmax(np.maximum(shared, 0) @ keys.T / np.sqrt(K))
    return pixels + attention * maps


def test_improved_maps_are_those_of_the_formula(narrow):
    network, score, variables = narrow
    images = np.random.default_rng(0).standard_normal((2, 40, 24, 3)).astype(np.float32)
    scores = score(variables, images)
    features = jax.jit(ResNet38(network.width, network.blocks).apply)(
        {name: tree["trunk"] for name, tree in variables.items()}, images
    )
    kernels = {name: np.asarray(variables["params"][name]["kernel"])[0, 0] for name in network.heads}
    sides = [
        resize_bilinear(images, (5, 3), align_corners=True),
        np.maximum(features["conv4"] @ kernels["f8_3"], 0),
        np.maximum(features["conv5"] @ kernels["f8_4"], 0),
    ]
    spread = np.asarray(normalised_maps(scores.maps, np.array([[5, 3]] * 2)))
    for b in range(2):
        side = np.concatenate([np.asarray(x[b]) for x in sides], -1).reshape(15, -1)
        wanted = by_formula(spread[b].reshape(15, 7), side, kernels["f9"], kernels["f10"])
        assert relative(np.asarray(scores.improved[b]).reshape(15, 7), wanted) < 1e-4


def test_only_the_best_class_of_a_position_is_spread_and_the_background_is_the_rest():
    maps = np.zeros((1, 1, 3, 4), np.float32)
    maps[0, 0] = [[5, 4, 4, -1], [5, 2, 1, -3], [5, 900, 900, 900]]  # the last one is outside
    found = np.asarray(normalised_maps(maps, np.array([[1, 2]])))[0, 0]
    # Equal classes stay both; the second position has a half and a quarter of the classes' maxima.
    np.testing.assert_allclose(found, [[0, 1, 1, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]], atol=3e-5)


@pytest.mark.parametrize("size", [(17, 33), (24, 31), (40, 40)])
def test_padded_pictures_score_as_unpadded_ones(narrow, size):
    _, score, variables = narrow
    rng = np.random.default_rng(1)
    picture = rng.standard_normal((1, *size, 3)).astype(np.float32)
    padded = np.full((2, 48, 56, 3), 7, np.float32)  # neither the padding nor the neighbour may leak in
    padded[:1, : size[0], : size[1]] = picture
    padded[1] = rng.standard_normal((48, 56, 3))
    alone = score(variables, picture)
    together = score(variables, padded, np.array([size, (48, 56)]))
    h, w = alone.maps.shape[1:3]
    for found, wanted in zip(together[:2], alone[:2], strict=True):
        assert relative(found[0, :h, :w], wanted[0]) < 3e-5
    assert relative(together.logits[0], alone.logits[0]) < 1e-5
    unmasked = score(variables, padded).improved[0, :h, :w]
    assert relative(unmasked, alone.improved[0]) > 1e-3  # the test would notice a missing mask


def test_the_trunk_learns_from_the_plain_maps_only(narrow):
    _, score, variables = narrow
    images = np.random.default_rng(2).standard_normal((1, 24, 24, 3)).astype(np.float32)

    def total(params):
        return score({**variables, "params": params}, images).improved[..., 1:].sum()

    grads = jax.jit(jax.grad(total))(variables["params"])
    moved = {name for name, tree in grads.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))}
    assert moved == {"f8_3", "f8_4", "f9", "f10"}


def test_bfloat16_keeps_parameters_and_scores_in_float32():
    network = narrow_cpn(dtype=jnp.bfloat16).network
    scores, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert {x.dtype for x in jax.tree.leaves((scores, variables))} == {jnp.dtype("float32")}


def test_a_uniform_picture_has_finite_maps_and_gradients(narrow):
    _, score, variables = narrow

    def total(params):
        return score({**variables, "params": params}, jnp.zeros((1, 24, 24, 3))).improved.sum()

    value, grads = jax.jit(jax.value_and_grad(total))(variables["params"])
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
