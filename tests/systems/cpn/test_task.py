"""CPN against its authors' losses, gradients and inference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, golden_at
from tests.helpers.networks import (
    FROZEN_BLOCKS,
    WIDTHS,
    batch_loss,
    golden_variables,
    narrow_batch,
    narrow_cpn,
    narrow_variables,
    relative,
)
from tests.helpers.runs import make_method, tiny
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.evaluation.sweep import ThresholdSweep
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.ops.selection import min_pooling_loss
from wsss_jax.systems.cpn.network import CpnNetwork, score_cpn
from wsss_jax.systems.cpn.task import Cpn, loss_terms
from wsss_jax.training.step import merge, partition


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "cpn.npz")


@pytest.fixture(scope="module")
def batch(golden):
    return {
        "images": golden["train_img"].transpose(0, 2, 3, 1),
        "labels": golden["train_label"],
        "keep": golden["train_sign"][:, 0].astype(np.uint8),
    }


@pytest.fixture(scope="module", params=WIDTHS)
def result(request, batch):
    """Loss terms and gradients of the golden batch, and the golden arrays of this width."""
    divide = request.param
    method = Cpn(network=CpnNetwork(20, width=1 / divide), frozen_blocks=FROZEN_BLOCKS)
    trainable, _, frozen = partition({"cpn": golden_variables("dev", "cpn", divide)}, method)

    def loss(trainable, frozen):
        return batch_loss(method.loss(merge(trainable, frozen), batch, None, None))

    (_, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, frozen)
    return metrics, grads, golden_at("cpn", divide)


def test_loss_terms_are_those_of_the_authors(result):
    metrics, _, golden = result
    for name in ("loss", "loss_tcp", "loss_tcp_improved", "loss_cpcr1", "loss_cpcr2"):
        np.testing.assert_allclose(metrics[name], golden[name], rtol=1e-4, err_msg=name)
    together = metrics["loss_cls"] + metrics["loss_rvmin"]  # theirs is the sum of both
    np.testing.assert_allclose(together, golden["loss_cls"], rtol=1e-4)
    np.testing.assert_allclose(
        metrics["loss_rvmin"], np.mean([golden[f"loss_rvmin_{i}"] for i in range(3)]), rtol=1e-4
    )


def test_gradients_are_those_of_the_authors(result):
    _, grads, golden = result
    checked = 0
    for key in golden:
        if key.startswith("gradnorm/"):
            *modules, _ = key.removeprefix("gradnorm/").split(".")
            top = modules[0].startswith("f")
            path = "/".join(["cpn", "params", *([] if top else ["trunk"]), *modules, "kernel"])
            np.testing.assert_allclose(np.linalg.norm(grads[path]), golden[key], rtol=1e-3, err_msg=key)
            checked += 1
    assert checked == 11
    head = np.asarray(grads["cpn/params/fc8/kernel"])[0, 0]
    assert relative(head.sum(0), golden["fc8_grad_sum"]) < 1e-3
    assert relative(head[:64].T, golden["fc8_grad_slice"]) < 1e-3


@pytest.mark.parametrize("divide", WIDTHS)
def test_each_view_is_classified_as_by_the_authors(batch, divide):
    golden, network = golden_at("cpn", divide), CpnNetwork(20, width=1 / divide)
    images, keep = batch["images"], batch["keep"][..., None]
    views = np.concatenate([images, images * keep, images * (1 - keep)])
    scores = jax.jit(network.apply)(golden_variables("dev", "cpn", divide), views)
    improved = resize_bilinear(scores.improved, images.shape[1:3], align_corners=True)[..., 1:]
    for i in range(3):
        rows = slice(2 * i, 2 * i + 2)
        assert relative(scores.logits[rows], golden[f"pooled_{i}"]) < 1e-4
        loss_cls = multi_label_soft_margin(scores.logits[rows, 1:], batch["labels"])
        np.testing.assert_allclose(loss_cls.mean(), golden[f"loss_cls_{i}"], rtol=1e-4)
        loss_rvmin = min_pooling_loss(improved[rows] * batch["labels"][:, None, None])
        np.testing.assert_allclose(loss_rvmin.mean(), golden[f"loss_rvmin_{i}"], rtol=1e-4)


def test_visible_share_is_that_of_the_authors(golden, batch):
    np.testing.assert_allclose(batch["keep"].mean((1, 2)), golden["train_rate"], rtol=1e-6)


def maps_of(*views):
    """One image's views of 1 x 5 positions: float32[3, 1, 5, 2], background first."""
    maps = np.zeros((3, 1, 5, 2), np.float32)
    maps[:, 0, :, 1] = views
    return maps


terms_jitted = jax.jit(loss_terms, static_argnames="hard_share")


def terms_of(maps, improved, rate=0.5, label=1.0, **settings):
    rates = np.array([[1, rate, 1 - rate]], np.float32)
    inputs = (jnp.array(maps), jnp.array(improved), jnp.zeros((3, 2)), jnp.array([[label]]), jnp.array(rates))
    return {name: value[0] for name, value in terms_jitted(*inputs, **settings).items()}


def test_terms_by_hand():
    """Maps of 0..1 stay as they are (but for 1e-5); the views show half of the image each."""
    whole, hidden, shown = [0, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]
    maps = maps_of(whole, hidden, shown)
    terms = {name: float(x) for name, x in terms_of(maps, maps).items()}
    assert terms["loss_cls"] == pytest.approx(np.log(2))
    assert terms["loss_rvmin"] == 0  # the lowest of five positions
    # |0.5 * hidden + 0.5 * shown - whole| is 0.5 at two of five positions.
    assert terms["loss_tcp"] == pytest.approx(0.2, abs=1e-4)
    assert terms["loss_tcp_improved"] == pytest.approx(0.2, abs=1e-4)
    # whole - hidden is (0, 0, 0.5, 1, 0) in the class and its opposite in the background, of which max_onehot
    # keeps both where they are equal, 0, and the class elsewhere; against shown's (0, 0, 0, 0.5, 0) and
    # background (1, 1, 1, 0.5, 1): the two largest of ten errors are 1.
    assert terms["loss_cpcr1"] == pytest.approx(1, abs=1e-4)
    assert terms["loss_cpcr2"] == pytest.approx(1, abs=1e-4)


def test_all_of_cpcrs_errors_count_if_asked():
    maps = maps_of([0, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0])
    # Of the picture above: (0, 0, 0.5, 0.5, 0) in the class and (1, 1, 1, 0.5, 1) in the background.
    assert float(terms_of(maps, maps, hard_share=1.0)["loss_cpcr1"]) == pytest.approx(0.55, abs=1e-4)
    # Half of the ten: four errors of 1, and one of the three of 0.5.
    assert float(terms_of(maps, maps, hard_share=0.5)["loss_cpcr1"]) == pytest.approx(0.9, abs=1e-4)


def test_the_configuration_decides_on_hard_examples_and_the_branchs_width():
    method = make_method(tiny("cpn_voc", cpn__hard_share=0.6, cpn__branch_width=0.5), 20)
    assert method.hard_share == 0.6
    shapes = jax.eval_shape(method.network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert shapes["f8_3"]["kernel"].shape == (1, 1, 16, 32)  # the trunk is a 32nd as wide as published
    assert shapes["f9"]["kernel"].shape == shapes["f10"]["kernel"].shape == (1, 1, 99, 96)


def test_views_count_by_their_visible_share():
    maps = maps_of([0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0])
    # |rate * hidden - whole| is 1 - rate at two of five positions.
    assert float(terms_of(maps, maps, rate=0.25)["loss_tcp"]) == pytest.approx(0.4 * 0.75, abs=1e-4)


def test_absent_classes_have_no_maps():
    maps = maps_of([0, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0])
    terms = terms_of(maps, maps, label=0.0)
    assert all(float(terms[name]) == 0 for name in ("loss_tcp", "loss_tcp_improved", "loss_rvmin"))


def test_plain_maps_of_the_parts_and_all_of_cpcrs_targets_are_fixed():
    rng = np.random.default_rng(0)
    maps, improved = rng.standard_normal((2, 3, 4, 4, 3)).astype(np.float32)

    def terms(maps, improved):
        rates = jnp.array([[1, 0.4, 0.6]])
        return loss_terms(maps, improved, jnp.zeros((3, 3)), jnp.ones((1, 2)), rates)

    grads = jax.jit(jax.jacrev(terms, (0, 1)))(maps, improved)
    moves = {
        name: [[bool(np.abs(view).max() > 0) for view in grad[0]] for grad in grads[name]]
        for name in ("loss_tcp", "loss_tcp_improved", "loss_cpcr1", "loss_cpcr2")
    }
    none = [False] * 3
    assert moves == {
        "loss_tcp": [[True, False, False], none],
        "loss_tcp_improved": [none, [True] * 3],
        "loss_cpcr1": [none, [False, False, True]],
        "loss_cpcr2": [none, [False, True, False]],
    }


TINY = narrow_cpn()
tiny_loss = jax.jit(lambda variables, batch, keys: batch_loss(TINY.loss(variables, batch, keys, None))[1])


def test_one_pass_gives_the_terms_of_three():
    data, variables = narrow_batch(rows=2), narrow_variables(TINY)
    images = np.random.default_rng(0).standard_normal((2, 24, 24, 3)).astype(np.float32)
    keep = data["keep"][..., None]
    score = jax.jit(functools.partial(score_cpn, TINY.network))
    separate = [score(variables["cpn"], view) for view in (images, images * keep, images * (1 - keep))]
    together = (np.stack(parts, 1).reshape(6, *parts[0].shape[1:]) for parts in zip(*separate, strict=True))
    maps, improved, logits = (jnp.asarray(x) for x in together)
    full, full_improved = (resize_bilinear(x, (24, 24), align_corners=True) for x in (maps, improved))
    kept = keep.mean((1, 2, 3))
    rates = np.stack([np.ones(2), kept, 1 - kept], 1).astype(np.float32)
    wanted = terms_jitted(full, full_improved, logits, data["labels"], rates)
    found = tiny_loss(variables, {**data, "images": images}, None)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value.mean(), rtol=1e-4, err_msg=name)


def test_views_draw_dropout_anew():
    """All is kept, so that image and second view are equal: only dropout can tell them apart."""
    images, keep = np.ones((1, 16, 16, 3), np.float32), np.ones((1, 16, 16), np.uint8)
    batch = {"images": images, "labels": np.ones((1, 6), np.float32), "keep": keep}
    variables = narrow_variables(TINY)
    assert float(tiny_loss(variables, batch, None)["loss_tcp"]) < 1e-5  # of maps of 0..1
    assert float(tiny_loss(variables, batch, jax.random.split(jax.random.key(0), 1))["loss_tcp"]) > 1e-3


def test_a_picture_that_is_hidden_altogether_has_finite_gradients():
    trainable, _, frozen = partition(narrow_variables(TINY), TINY)
    keep = np.stack([np.zeros((16, 16), np.uint8), np.ones((16, 16), np.uint8)])
    batch = {"images": np.ones((2, 16, 16, 3), np.float32), "labels": np.eye(2, 6), "keep": keep}

    @jax.jit
    @jax.grad
    def gradient(trainable, frozen, batch):
        return batch_loss(TINY.loss(merge(trainable, frozen), batch, None, None))[0]

    grads = gradient(trainable, frozen, batch)
    assert all(np.isfinite(x).all() for x in grads.values())
    assert max(float(np.abs(x).max()) for x in grads.values()) > 0


def test_learning_rates_are_those_of_the_authors():
    method = narrow_cpn()
    groups = {head: method.group(("cpn", "params", head, "kernel")) for head in method.network.heads}
    assert set(groups.values()) == {"new"}
    assert method.group(("cpn", "params", "trunk", "b7", "conv_branch1", "kernel")) == "pretrained"
    assert method.group(("cpn", "params", "trunk", "b2", "conv_branch1", "kernel")) == "frozen"


@pytest.fixture(scope="module")
def inferred(golden):
    """Ours and the authors' result of the golden answers of eight inputs."""
    size = tuple(int(n) for n in golden["infer_size"])
    method = narrow_cpn()
    total = jnp.zeros(())
    for i, maps in enumerate(golden["infer_maps"].transpose(0, 2, 3, 1)):
        resized = method.activate(resize_bilinear(maps[None], size))
        total += resized[:, :, ::-1] if i % 2 else resized
    found = method.finish(total, jnp.array([size]))[0].transpose(2, 0, 1)
    return np.asarray(found), golden["infer_cam"]


def test_answers_of_scales_and_flips_add_up_as_in_the_authors_inference(inferred):
    found, theirs = inferred
    assert theirs.min() < -0.2  # the lowest pixel of a class that is positive everywhere
    assert relative(found, np.maximum(theirs, 0)) < 1e-4
    assert found.min() == 0 and found.max() <= 0.5


def test_what_the_authors_files_have_below_zero_changes_no_prediction(inferred, golden):
    """At every background score of their sweep; evaluated against one of the labellings itself."""
    found, theirs = inferred
    keys = golden["infer_classes"].astype(np.int32)
    order = np.argsort(keys)
    for threshold in (0.2, 0.3, 0.4, 0.5):
        ours, wanted = (
            np.concatenate([np.full((1, *cam.shape[1:]), threshold), cam[order]]).argmax(0)
            for cam in (found, theirs)
        )
        np.testing.assert_array_equal(ours, wanted)
    sweep = ThresholdSweep(num_classes=20, thresholds=(0.2, 0.59))
    sweep.add(ClassMaps(keys, found), np.zeros(found.shape[1:], np.uint8))  # accepted: nothing below 0
    assert sweep.images == 1


def test_maps_go_through_the_size_of_the_networks_input():
    """With aligned corners to it, then by the half-pixel convention to the image's size; padding aside."""
    method, rng = narrow_cpn(), np.random.default_rng(0)
    maps = rng.standard_normal((1, 6, 7, 3)).astype(np.float32)
    sizes, original = np.array([[37, 50]]), np.array([[25, 33]])
    found = method.resize(maps, sizes, original, (26, 36))[0]
    inside = resize_bilinear(maps[:, :5, :7], (37, 50), align_corners=True)
    wanted = resize_bilinear(inside, (25, 33))[0]
    assert relative(found[:25, :33], wanted) < 1e-5
    assert not np.asarray(found)[25:].any() and not np.asarray(found)[:, 33:].any()
