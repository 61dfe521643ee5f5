"""The network against psa's, and what padding must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import golden_variables, narrow_cam, narrow_classifier, narrow_variables, relative
from wsss_jax.models.classifier import Classifier
from wsss_jax.models.resnet38 import ResNet38
from wsss_jax.weights import check_against, load_foreign


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "resnet38_cls.npz")


@pytest.fixture(scope="module")
def published(golden):
    """The golden images' scores and features, by one program: compiling takes most of the time."""
    variables, images = golden_variables(), golden["x"].transpose(0, 2, 3, 1)

    @jax.jit
    def both(variables, images):
        trunk = {collection: tree["trunk"] for collection, tree in variables.items()}
        return Classifier(20).apply(variables, images), ResNet38().apply(trunk, images)

    return both(variables, images)


def test_classifier_gives_the_maps_and_logits_of_psa(golden, published):
    scores, _ = published
    assert relative(scores.logits, golden["logits"]) < 1e-4
    assert relative(np.maximum(scores.maps, 0).transpose(0, 3, 1, 2), golden["cam"]) < 1e-4


def test_named_features_are_those_of_psa(golden, published):
    _, features = published
    assert features["conv3"].shape == (2, 13, 17, 256)  # stride 4, sizes rounded up
    assert relative(features["conv4"].transpose(0, 3, 1, 2), golden["conv4"]) < 1e-4
    for name in ("conv5", "conv6"):
        assert relative(features[name].mean(3), golden[f"{name}_channel_mean"]) < 1e-4
        assert relative(features[name].mean((1, 2)), golden[f"{name}_space_mean"]) < 1e-4


def test_published_network_has_the_published_names_and_shapes():
    shapes = jax.eval_shape(Classifier(20).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    ours = {path: x.shape for path, x in flatten_dict(shapes, sep="/").items()}
    theirs = {path: x.shape for path, x in flatten_dict(golden_variables(), sep="/").items()}
    assert ours == theirs
    assert sum(np.prod(s) for path, s in ours.items() if path.endswith("kernel")) == 105_105_088


@pytest.fixture(scope="module")
def narrow():
    """What scores images by a narrow network, and its variables."""
    method = narrow_cam()
    return jax.jit(method.network.apply), narrow_variables(method)["classifier"]


@pytest.mark.parametrize("size", [(17, 33), (24, 31), (40, 40)])
def test_padded_pictures_score_as_unpadded_ones(narrow, size):
    score, variables = narrow
    rng = np.random.default_rng(1)
    picture = rng.standard_normal((1, *size, 3)).astype(np.float32)
    padded = np.full((2, 48, 56, 3), 7, np.float32)  # neither the padding nor the neighbour may leak in
    padded[:1, : size[0], : size[1]] = picture
    padded[1] = rng.standard_normal((48, 56, 3))
    alone = score(variables, picture)
    together = score(variables, padded, np.array([size, (48, 56)]))
    h, w = alone.maps.shape[1:3]
    assert (h, w) == (-(-size[0] // 8), -(-size[1] // 8))
    assert relative(together.maps[0, :h, :w], alone.maps[0]) < 1e-5
    assert relative(together.logits[0], alone.logits[0]) < 1e-5
    unmasked = score(variables, padded)
    # The test would notice a missing mask.
    assert relative(unmasked.maps[0, :h, :w], alone.maps[0]) > 1e-3


def test_dropout_depends_on_the_images_own_key_only(narrow):
    score, variables = narrow
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(3), 4)
    whole = score(variables, images, keys=keys).logits
    half = score(variables, images[2:], keys=keys[2:]).logits
    assert relative(whole[2:], half) < 1e-5
    other = score(variables, images, keys=jax.random.split(jax.random.key(4), 4)).logits
    assert relative(other, whole) > 1e-3


def test_bfloat16_keeps_parameters_and_scores_in_float32():
    network = narrow_classifier(dtype=jnp.bfloat16)
    scores, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert {x.dtype for x in jax.tree.leaves((scores, variables))} == {jnp.dtype("float32")}


def test_a_file_of_mxnet_fits_the_network_of_its_width_and_runs():
    path = GOLDEN / "mxnet" / "resnet38_legacy_v0.params"  # the published names, 1/64 of the channels
    variables = load_foreign(path, "resnet38_base")
    network = ResNet38(width=1 / 64)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    trunk = {collection: tree["trunk"] for collection, tree in variables.items()}
    check_against(trunk, shapes)
    conv6 = jax.jit(network.apply)(trunk, np.ones((1, 24, 32, 3), np.float32))["conv6"]
    assert conv6.shape == (1, 3, 4, 64) and np.isfinite(conv6).all() and np.asarray(conv6).max() > 0
