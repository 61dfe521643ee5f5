"""AffinityNet against psa's: features, pairs, loss, gradients, and the whole walk from image to labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, golden_at, names, state_dict
from tests.helpers.networks import (
    FROZEN_BLOCKS,
    WIDTHS,
    batch_loss,
    golden_variables,
    narrow_variables,
    relative,
)
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch
from wsss_jax.ops.stencil import feature_affinities, half_offsets
from wsss_jax.refinement.pseudo import relative_foreground, walk_seeds
from wsss_jax.refinement.walk import WalkSettings, psa_affinities
from wsss_jax.refinement.walker import Walker, WalkInput
from wsss_jax.sharding import data_mesh
from wsss_jax.systems.affinity.network import AffinityNet
from wsss_jax.systems.affinity.task import Affinity, pair_labels, pair_terms
from wsss_jax.systems.affinity.walk import AffinityWalk
from wsss_jax.task import Outcome
from wsss_jax.training.initial import variable_shapes
from wsss_jax.training.step import merge, partition
from wsss_jax.weights import check_against, from_variables, to_variables

TERMS = ("bg", "fg", "neg")


def narrow(radius=5):
    network = AffinityNet(width=1 / 16, blocks=(0, 0, 0, 0))
    return Affinity(network=network, frozen_blocks=FROZEN_BLOCKS, radius=radius)


def cropped(planes):
    """[B, 34, h, w] -> psa's [B, 34, sources], at radius 5."""
    h, w = planes.shape[2:]
    return np.asarray(planes)[:, :, : h - 4, 4 : w - 4].reshape(*planes.shape[:2], -1)


labelled = jax.jit(lambda labels: pair_labels(labels, 5))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "resnet38_aff.npz")


def test_pairs_of_labels_are_psas(golden):
    found = labelled(golden["train_label"])
    for term, planes in zip(TERMS, found, strict=True):
        np.testing.assert_array_equal(cropped(planes), golden[f"{term}_label"])
        assert int(planes.sum()) == golden[f"{term}_label"].sum()  # none beyond psa's sources


def test_loss_terms_of_given_affinities_are_psas(golden):
    labels = labelled(golden["train_label"])
    affinity = np.full(labels.background.shape, 0.5, np.float32)
    affinity[:, :, :8, 4:8] = golden["train_aff"].reshape(2, 34, 8, 4)
    _, means = batch_loss(Outcome(pair_terms(jnp.asarray(affinity), labels)), Affinity.epsilon)
    for term in TERMS:
        np.testing.assert_allclose(means[f"loss_{term}"], golden[f"{term}_loss"], rtol=1e-4)


def test_a_kind_of_pair_that_is_missing_costs_nothing():
    labels = labelled(np.zeros((1, 12, 12), np.uint8))
    _, means = batch_loss(Outcome(pair_terms(jnp.full((1, 34, 12, 12), 0.5), labels)), Affinity.epsilon)
    np.testing.assert_allclose(means["loss_bg"], np.log(2), rtol=1e-4)
    assert means["loss_fg"] == means["loss_neg"] == 0


def test_names_and_shapes_are_those_of_the_published_file():
    found = variable_shapes(AffinityNet())
    published = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names("resnet38_aff").items()}
    check_against(to_variables(published, "resnet38_aff"), found)


def test_weights_go_to_psas_names_and_back():
    states = state_dict("dev", names("resnet38_aff", divide=16))
    again = from_variables(to_variables(states, "resnet38_aff"), "resnet38_aff")
    assert list(again) == list(states)
    for name, tensor in states.items():
        np.testing.assert_array_equal(again[name], tensor)


def test_the_branches_are_new_and_learn_beside_the_trunk():
    method = narrow()
    assert method.group(("affinity", "params", "f9", "kernel")) == "new"
    assert method.group(("affinity", "params", "trunk", "b5", "conv_branch2a", "kernel")) == "pretrained"
    assert method.group(("affinity", "params", "trunk", "b2", "conv_branch2a", "kernel")) == "frozen"


def test_padding_does_not_change_the_features():
    network, rng = narrow().network, np.random.default_rng(0)
    variables = narrow_variables(narrow())["affinity"]
    image = rng.standard_normal((1, 40, 56, 3)).astype(np.float32)
    padded = np.full((1, 64, 64, 3), 7, np.float32)
    padded[:, :40, :56] = image
    alone = jax.jit(network.apply)(variables, image)
    inside = jax.jit(network.apply)(variables, padded, np.array([[40, 56]]))
    assert relative(inside[:, :5, :7], alone) < 1e-5


@pytest.mark.parametrize("divide", WIDTHS)
def test_affinities_are_psas(divide):
    golden, variables = golden_at("resnet38_aff", divide), golden_variables("dev", "resnet38_aff", divide)
    network = AffinityNet(width=1 / divide)
    features = jax.jit(network.apply)(variables, golden["x"].transpose(0, 2, 3, 1))
    found = feature_affinities(features, half_offsets(5))
    assert relative(cropped(found), golden["aff_sparse"]) < 1e-4
    half = np.asarray(psa_affinities(features, jnp.array([[12, 10]] * 2), 5))[0]
    dense, positions = np.eye(120, dtype=np.float32), np.arange(120).reshape(12, 10)
    for plane, (dy, dx) in zip(half, half_offsets(5), strict=True):
        for y, x in np.argwhere(plane > 0):
            p, q = positions[y, x], positions[y + dy, x + dx]
            dense[p, q] = dense[q, p] = plane[y, x]
    np.testing.assert_allclose(dense, golden["aff_dense_first"], atol=1e-5)


@pytest.mark.parametrize("divide", WIDTHS)
def test_loss_and_gradients_are_psas(divide):
    golden, variables = golden_at("resnet38_aff", divide), golden_variables("dev", "resnet38_aff", divide)
    method = Affinity(network=AffinityNet(width=1 / divide), frozen_blocks=FROZEN_BLOCKS, radius=5)
    trainable, _, frozen = partition({"affinity": variables}, method)
    batch = {"images": golden["train_img"].transpose(0, 2, 3, 1), "labels": golden["train_label"]}

    def loss(trainable, frozen):
        return batch_loss(method.loss(merge(trainable, frozen), batch, None, None), method.epsilon)

    (total, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, frozen)
    np.testing.assert_allclose(total, golden["loss"], rtol=1e-4)
    for term in TERMS:
        np.testing.assert_allclose(metrics[f"loss_{term}"], golden[f"{term}_loss"], rtol=1e-4)
    norms = [key for key in golden if key.startswith("gradnorm/")]
    assert len(norms) == 10
    for key in norms:
        *modules, _ = key.removeprefix("gradnorm/").split(".")
        trunk = [] if modules[0].startswith("f") else ["trunk"]
        path = "/".join(["affinity", "params", *trunk, *modules, "kernel"])
        np.testing.assert_allclose(np.linalg.norm(grads[path]), golden[key], rtol=1e-3, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stencil", "chebyshev"])
@pytest.mark.parametrize("bucket", [(96, 80), (104, 112)])
def test_the_walk_from_picture_to_labels_is_psas(golden, method, bucket):
    variables = golden_variables("dev", "resnet38_aff")
    settings = WalkSettings(beta=8, logt=8, method=method)
    plan = InferenceSettings(scales=(1.0,), flip=False, class_filter="given", batch_size=1, max_buckets=1)
    walk = AffinityWalk(network=AffinityNet(), radius=5, settings=settings)
    walker = Walker(walk, data_mesh(jax.devices()[:1]), plan)
    cams = ClassMaps(golden["rw_classes"].astype(np.int32), golden["rw_cams"])
    item = WalkInput("a", golden["rw_image"], walk_seeds(cams, 16, 8))
    (propagated,) = next(walker.walk(variables, [PlannedBatch(bucket, ("a",))], lambda _: item, 1))
    scores = np.zeros((21, 12, 10), np.float32)
    scores[propagated.maps.class_ids + 1] = propagated.maps.planes
    assert relative(scores, golden["rw_scores"]) < 1e-4
    shares = relative_foreground(propagated.maps, 8, golden["rw_label"].shape)
    np.testing.assert_array_equal(shares.labels(0.5), golden["rw_label"])
