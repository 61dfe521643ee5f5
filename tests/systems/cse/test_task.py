"""OC-CSE against its authors' program, and its smaller promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import (
    FROZEN_BLOCKS,
    batch_loss,
    golden_variables,
    narrow_cse,
    narrow_variables,
    relative,
)
from wsss_jax.models.classifier import Classifier
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.systems.cse.task import Cse, pick_class
from wsss_jax.task import Progress
from wsss_jax.training.step import merge, partition


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "cse.npz")


@pytest.fixture(scope="module")
def result(golden):
    """Loss terms and gradients of the golden batch."""
    network = Classifier(20, head_dropout=0.0)
    method = Cse(
        er=network, cl=network, frozen_blocks=FROZEN_BLOCKS, erased_weight=0.3, erased_weight_per_epoch=0.05
    )
    trainable, _, frozen = partition(
        {"er": golden_variables("dev"), "cl": golden_variables("dev_cl")}, method
    )
    batch = {"images": golden["img"].transpose(0, 2, 3, 1), "labels": golden["label"]}
    picked = np.eye(20, dtype=np.float32)[golden["erased"]]

    def loss(trainable, frozen):  # as arguments; variables closed over would be constants of the program
        return batch_loss(method.losses(merge(trainable, frozen), batch, picked, golden["weight"], None))

    (_, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, frozen)
    return metrics, grads


def test_loss_terms_are_those_of_the_authors(golden, result):
    metrics, _ = result
    for ours, theirs in (("loss", "loss"), ("loss_all", "loss_all"), ("loss_erased", "loss_select")):
        np.testing.assert_allclose(metrics[ours], golden[theirs], rtol=1e-4)


def test_gradients_are_those_of_the_authors(golden, result):
    _, grads = result
    checked = 0
    for key in golden.files:
        if key.startswith("gradnorm/"):
            *modules, _ = key.removeprefix("gradnorm/").split(".")
            path = "/".join(["er", "params", *([] if modules[0] == "fc8" else ["trunk"]), *modules, "kernel"])
            np.testing.assert_allclose(np.linalg.norm(grads[path]), golden[key], rtol=1e-3, err_msg=key)
            checked += 1
    assert checked == 7
    head = np.asarray(grads["er/params/fc8/kernel"])[0, 0]
    assert relative(head.sum(0), golden["fc8_grad_sum"]) < 1e-3
    assert relative(head[:64].T, golden["fc8_grad_slice"]) < 1e-3


def test_only_er_learns_and_only_where_the_paper_lets_it(result):
    _, grads = result
    assert all(path.startswith("er/params/") and path.endswith("/kernel") for path in grads)
    modules = {path.split("/")[3] for path in grads if "/trunk/" in path}
    assert modules == {
        "b3",
        "b3_1",
        "b3_2",
        "b4",
        *(f"b4_{i}" for i in range(1, 6)),
        "b5",
        "b5_1",
        "b5_2",
        "b6",
        "b7",
    }


def test_maps_of_scales_and_flips_add_up_as_in_the_authors_inference(golden):
    size = tuple(int(n) for n in golden["infer_size"])
    method = narrow_cse()
    total = jnp.zeros(())
    for i, maps in enumerate(golden["infer_maps"].transpose(0, 2, 3, 1)):
        resized = method.activate(resize_bilinear(maps[None], size))
        total += resized[:, :, ::-1] if i % 2 else resized
    cam = method.finish(total, jnp.array([size]))[0].transpose(2, 0, 1)
    assert relative(cam, golden["infer_cam"]) < 1e-4


def test_weight_of_the_erased_image_grows_with_the_epochs(golden):
    network = Classifier(20, width=1 / 16, blocks=(0, 0, 0, 0), head_dropout=0.0)
    method = Cse(er=network, cl=network, frozen_blocks=(), erased_weight=0.3, erased_weight_per_epoch=0.05)
    variables = narrow_variables(method)
    batch = {"images": jnp.ones((2, 16, 16, 3)), "labels": golden["label"]}
    keys = jax.random.split(jax.random.key(1), 2)

    @jax.jit
    def erased(epoch):
        return batch_loss(method.loss(variables, batch, keys, Progress(jnp.int32(0), epoch)))[1][
            "loss_erased"
        ]

    np.testing.assert_allclose(erased(4) / erased(0), (0.3 + 0.05 * 4) / 0.3, rtol=1e-5)


def test_each_present_class_is_picked_equally_often_and_no_other():
    labels = np.tile(np.array([[0, 1, 0, 1, 1]], np.float32), (3000, 1))
    picked = np.asarray(pick_class(jnp.asarray(labels), jax.random.split(jax.random.key(0), 3000)))
    assert (picked.sum(1) == 1).all()
    np.testing.assert_allclose(picked.mean(0), [0, 1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)


def test_an_image_without_a_class_is_not_erased():
    picked = pick_class(jnp.zeros((2, 5)), jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(picked, 0)


def test_state_of_both_networks_has_the_names_of_the_ordinary_classifier():
    method = narrow_cse()
    shapes = [
        flatten_dict(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))), sep="/").keys()
        for net in method.networks.values()
    ]
    assert shapes[0] == shapes[1] and "params/fc8/kernel" in shapes[0]
