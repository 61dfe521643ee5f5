"""ResNet-50 against IRN's, and what padding must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.golden import GOLDEN, file_of
from tests.helpers.networks import relative
from wsss_jax.models.resnet50 import ResNet50
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.systems.resnet50.network import Classifier50
from wsss_jax.weights import check_against, to_variables

STRIDES = {"stem": 4, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 16}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "resnet50_cam.npz")


@pytest.fixture(scope="module")
def published():
    return to_variables(file_of("resnet50_cam"), "resnet50_cam")


def test_classifier_gives_the_logits_loss_and_maps_of_irn(golden, published):
    """The maps are those of an image and its mirror image."""
    images = golden["x"].transpose(0, 2, 3, 1)
    batch = np.concatenate([images, images[:1, :, ::-1]])
    scores = jax.jit(Classifier50(20).apply)(published, batch)
    assert relative(scores.logits[:2], golden["logits"]) < 1e-4
    loss = multi_label_soft_margin(scores.logits[:2], golden["label"]).mean()
    assert relative(loss, golden["loss"]) < 1e-3
    maps = np.maximum(scores.maps, 0)
    assert relative(maps[0] + maps[2, :, ::-1], golden["cam"].transpose(1, 2, 0)) < 1e-4


@pytest.mark.slow
def test_gradients_are_those_of_irn(golden, published):
    """IRN cuts them after layer2, which a task does by freezing what lies below."""

    @jax.jit
    def gradients(params, images, labels):
        def loss(params):
            scores = Classifier50(20).apply({**published, "params": params}, images)
            return multi_label_soft_margin(scores.logits, labels).mean()

        return jax.grad(loss)(params)

    grads = gradients(published["params"], golden["x"].transpose(0, 2, 3, 1), golden["label"])
    norms = {path: np.linalg.norm(grad) for path, grad in flatten_dict(grads, sep="/").items()}
    kinds = {True: {"weight": "scale", "bias": "bias"}, False: {"weight": "kernel"}}
    checked = 0
    for name, wanted in zip(golden["grad_names"], golden["grad_norms"], strict=True):
        *modules, leaf = str(name).replace("resnet50.", "trunk.").split(".")
        is_norm = modules[-1].startswith("bn")
        path = "/".join((*modules, kinds[is_norm][leaf]))
        for i in range(10):
            path = path.replace(f"/{i}/", f"_{i}/")
        if wanted != -1:
            assert abs(norms[path] / wanted - 1) < 1e-3, name
            checked += 1
    assert checked >= 4


def test_padded_pictures_have_the_features_of_unpadded_ones():
    network = ResNet50(width=1 / 16, blocks=(1, 2, 1, 1))
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))

    def fill(path, leaf):
        kind = path[-1].key
        low, high = {"scale": (0.5, 1.5), "var": (0.5, 1.5)}.get(kind, (-0.5, 0.5))
        return rng.uniform(low, high, leaf.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes)
    features, size = jax.jit(network.apply), (45, 67)
    picture = rng.standard_normal((1, *size, 3)).astype(np.float32)
    padded = np.full((2, 64, 96, 3), 7, np.float32)  # neither the padding nor the neighbour may leak in
    padded[:1, : size[0], : size[1]] = picture
    padded[1] = rng.standard_normal((64, 96, 3))
    alone, together = features(variables, picture), features(variables, padded, np.array([size, (64, 96)]))
    unmasked = features(variables, padded)
    for name, stride in STRIDES.items():
        h, w = -(-size[0] // stride), -(-size[1] // stride)
        assert alone[name].shape[1:3] == (h, w)
        assert relative(together[name][0, :h, :w], alone[name][0]) < 1e-5, name
        # The test would notice a missing mask.
        assert relative(unmasked[name][0, :h, :w], alone[name][0]) > 1e-3, name


def test_published_network_has_the_published_names_and_shapes(published):
    shapes = jax.eval_shape(Classifier50(20).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    check_against(published, shapes)
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes["params"]["trunk"])) == 23_508_032
