"""SC-CAM against its authors' program, and its smaller promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.golden import GOLDEN, golden_at
from tests.helpers.networks import (
    FROZEN_BLOCKS,
    WIDTHS,
    batch_loss,
    golden_variables,
    narrow_variables,
    relative,
)
from wsss_jax.refinement.energies import binarised
from wsss_jax.systems.sc_cam.network import PooledFeatures, SubcategoryClassifier, score_subcategories
from wsss_jax.systems.sc_cam.task import ScCam, label_accuracy
from wsss_jax.training.initial import fresh_variables
from wsss_jax.training.step import merge, partition

SIZE = (12, 14)  # of the golden post-processing


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "sccam.npz") as file:
        return {key: file[key] for key in file.files}


def narrow_sc_cam(k=3, maps="classes", **options) -> ScCam:
    network = SubcategoryClassifier(6, 6 * k, width=1 / 16, blocks=(0, 0, 1, 0), **options)
    return ScCam(network=network, frozen_blocks=FROZEN_BLOCKS, sub_weight=5.0, maps=maps)


def score(method, variables, images, keys=None):
    apply = jax.jit(functools.partial(score_subcategories, method.network))
    return apply(variables, images, keys=keys)


def segmentation(cams, classes):
    """Argmax over [0.15, 20 planes], as the authors segment."""
    planes = np.zeros((21, *SIZE), np.float32)
    planes[0] = 0.15
    planes[np.asarray(classes) + 1] = cams
    return planes.argmax(0)


def finished(method, cams):
    """Sums scales and flips of [8, K, h, w] as the program does, and finishes: [K', h, w]."""
    total = sum(method.activate(jnp.asarray(one.transpose(1, 2, 0)[None])) for one in cams)
    return np.asarray(method.finish(total, jnp.array([SIZE])))[0].transpose(2, 0, 1)


def test_maps_of_the_classes_are_those_of_the_authors(golden):
    cams = finished(narrow_sc_cam(), golden["post_cams_20"])
    assert relative(cams, golden["post_norm_20"]) < 1e-4
    np.testing.assert_array_equal(segmentation(cams, golden["post_classes"]), golden["post_seg_20"])


def test_merged_maps_of_sub_categories_are_those_of_the_authors(golden):
    network = SubcategoryClassifier(20, 200, width=1 / 16)
    method = ScCam(network=network, frozen_blocks=(), sub_weight=5.0, maps="subcategories")
    cams = finished(method, golden["post_cams_200"])
    assert relative(cams, golden["post_merged"]) < 1e-4
    np.testing.assert_array_equal(segmentation(cams, golden["post_classes"]), golden["post_seg_200"])


def test_binarised_maps_are_what_the_authors_save(golden):
    cams = finished(narrow_sc_cam(), golden["post_cams_20"])
    np.testing.assert_array_equal(binarised(cams), golden["post_saved_dict_20"])
    assert binarised(cams).dtype == np.float32


@pytest.mark.parametrize("divide", WIDTHS)
def test_published_network_scores_and_learns_as_the_authors(divide):
    golden = golden_at("sccam", divide)
    variables = {"classifier": golden_variables(network="sccam_k10", divide=divide)}
    network = SubcategoryClassifier(20, 200, width=1 / divide)
    method = ScCam(network=network, frozen_blocks=FROZEN_BLOCKS, sub_weight=5.0)
    images = golden["x"].transpose(0, 2, 3, 1)
    batch = {"images": images, "labels": golden["label_20"], "sub_labels": golden["label_200"]}

    scores = jax.jit(network.apply)(variables["classifier"], images)
    for found, heads in ((scores.classes, 20), (scores.subcategories, 200)):
        assert relative(found.logits, golden[f"logits_{heads}"]) < 1e-4
        assert relative(np.maximum(found.maps, 0).transpose(0, 3, 1, 2), golden[f"cam_{heads}"]) < 1e-4
    trunk = {name: {"trunk": tree["trunk"]} for name, tree in variables["classifier"].items()}
    assert relative(jax.jit(PooledFeatures(width=1 / divide).apply)(trunk, images), golden["feature"]) < 1e-4

    trainable, _, frozen = partition(variables, method)

    def loss(trainable, frozen):
        return batch_loss(method.loss(merge(trainable, frozen), batch, None, None))

    (_, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, frozen)
    for ours, theirs in (("loss", "loss"), ("loss_class", "loss_20"), ("loss_sub", "loss_200")):
        np.testing.assert_allclose(metrics[ours], golden[theirs], rtol=1e-4)
    checked = [key for key in golden if key.startswith("gradnorm/")]
    assert len(checked) == 8
    for key in checked:
        *modules, _ = key.removeprefix("gradnorm/").split(".")
        under = [] if modules[0].startswith("fc8") else ["trunk"]
        path = "/".join(["classifier", "params", *under, *modules, "kernel"])
        np.testing.assert_allclose(np.linalg.norm(grads[path]), golden[key], rtol=1e-3, err_msg=key)


def test_loss_is_parents_plus_five_times_children():
    method = narrow_sc_cam(k=2)
    variables = narrow_variables(method)
    rng = np.random.default_rng(0)
    batch = {
        "images": rng.standard_normal((3, 16, 16, 3)).astype(np.float32),
        "labels": np.eye(6, dtype=np.float32)[[0, 2, 5]],
        "sub_labels": np.eye(12, dtype=np.float32)[[1, 4, 10]],
    }
    _, metrics = jax.jit(lambda v: batch_loss(method.loss(v, batch, None, None)))(variables)
    scores = score(method, variables["classifier"], batch["images"])

    def soft_margin(logits, labels):  # PyTorch's formula
        probability = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
        return -np.mean(labels * np.log(probability) + (1 - labels) * np.log(1 - probability))

    of_class = soft_margin(scores.classes.logits, batch["labels"])
    subcategory = soft_margin(scores.subcategories.logits, batch["sub_labels"])
    np.testing.assert_allclose(metrics["loss_class"], of_class, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], of_class + 5 * subcategory, rtol=1e-5)


def test_both_heads_are_new_layers_and_see_the_same_dropped_channels():
    method = narrow_sc_cam()
    for head in ("fc8_20", "fc8_200"):
        assert method.group(("classifier", "params", head, "kernel")) == "new"
    assert method.group(("classifier", "params", "trunk", "b7", "conv_branch1", "kernel")) == "pretrained"
    variables = narrow_variables(method)["classifier"]
    params = variables["params"]
    # With the subcategories' kernel a repetition of the classes', so are their logits.
    params = {**params, "fc8_200": {"kernel": np.repeat(params["fc8_20"]["kernel"], 3, axis=-1)}}
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    scores = score(method, {**variables, "params": params}, images, keys=keys)
    assert relative(scores.subcategories.logits, np.repeat(scores.classes.logits, 3, axis=1)) < 1e-5


def test_accuracy_is_shared_labels_over_all_labels():
    logits = jnp.array([[1.0, 2.0, -1.0], [-1.0, -2.0, 3.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(label_accuracy(logits, labels), [1 / 2, 1, 0, 1], rtol=1e-6)


@settings(deadline=None, max_examples=25)  # the first example compiles
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31))
def test_merging_before_dividing_is_dividing_before_merging(k, classes, seed):
    network = SubcategoryClassifier(classes, classes * k, width=1 / 16)
    method = ScCam(network=network, frozen_blocks=(), sub_weight=5.0, maps="subcategories")
    total = np.random.default_rng(seed).random((1, 3, 4, classes, k)).astype(np.float32)
    maxima = total.max((1, 2, 4), keepdims=True)
    theirs = (total / (maxima + np.float32(1e-5))).max(-1)
    ours = method.finish(jnp.asarray(total.reshape(1, 3, 4, -1)), jnp.array([[3, 4]]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_features_of_padded_pictures_are_those_of_unpadded_ones():
    network = PooledFeatures(width=1 / 16, blocks=(0, 0, 0, 0))
    rng = np.random.default_rng(1)
    picture = rng.standard_normal((1, 17, 30, 3)).astype(np.float32)
    padded = np.full((1, 32, 40, 3), 7, np.float32)
    padded[:, :17, :30] = picture
    variables, apply = fresh_variables(network, seed=0), jax.jit(network.apply)
    alone, inside = apply(variables, picture), apply(variables, padded, np.array([[17, 30]]))
    assert alone.shape == (1, 256) and alone.dtype == jnp.float32
    assert relative(inside, alone) < 1e-5
