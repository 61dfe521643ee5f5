"""Norms against PyTorch's formulas in NumPy's float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.models.norms import CALIBRATION, BatchNorm, GroupNorm, LayerNorm
from wsss_jax.ops.valid import valid_mask
from wsss_jax.sharding import data_mesh, replicated, split

C = 4
rng = np.random.default_rng(0)
X = (3 * rng.standard_normal((8, 2, 3, C)) + 5).astype(np.float32)
PARAMS = {"scale": np.float32([0.5, 1, 2, -1]), "bias": np.float32([0, 3, -1, 2])}
STATS = {"mean": np.float32([4, 5, 6, 7]), "var": np.float32([8, 9, 10, 11])}
VARIABLES = {"params": PARAMS, "batch_stats": STATS}


@functools.partial(jax.jit, static_argnums=0)
def train(layer, x, variables=VARIABLES):
    """A call in training: what comes out and the new statistics."""
    y, new = layer.apply(variables, x, mutable=["batch_stats"])
    return y, new["batch_stats"]


@functools.partial(jax.jit, static_argnums=0)
def apply(layer, x, sizes=None):
    """A call of a group or layer norm."""
    return layer.apply({"params": PARAMS}, x, *([] if sizes is None else [sizes]))


def normalised(x, mean, var, epsilon=1e-5):
    return (x - mean) / np.sqrt(var + epsilon) * PARAMS["scale"].astype(float) + PARAMS["bias"]


def pytorch(x, group_size, momentum):
    """One iteration of BatchNorm2d after the other, each on one group of images."""
    mean, var, out = STATS["mean"].astype(float), STATS["var"].astype(float), []
    for start in range(0, len(x), group_size):
        values = x[start : start + group_size].astype(float).reshape(-1, C)
        mean = (1 - momentum) * mean + momentum * values.mean(0)
        var = (1 - momentum) * var + momentum * values.var(0, ddof=1)
        out.append(normalised(x[start : start + group_size], values.mean(0), values.var(0)))
    return np.concatenate(out), mean, var


def close(found, wanted, rtol=1e-5):
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([(1, 0.1), (2, 0.0003), (4, 1.0)]), st.integers(0, 99))
def test_groups_in_one_pass_are_pytorchs_iterations_one_after_the_other(case, seed):
    group_size, momentum = case
    x = X[np.random.default_rng(seed).permutation(8)]
    y, stats = train(BatchNorm(batch_statistics=True, group_size=group_size, momentum=momentum), x)
    wanted, mean, var = pytorch(x, group_size, momentum)
    close(y, wanted)
    close(stats["mean"], mean)
    close(stats["var"], var)


def test_without_a_group_size_all_images_are_one_group():
    y, stats = train(BatchNorm(batch_statistics=True), X)
    wanted, mean, var = pytorch(X, 8, 0.1)
    close(y, wanted)
    close(stats["mean"], mean)
    close(stats["var"], var)


def test_features_without_positions_are_normalised_too():
    y, stats = train(BatchNorm(batch_statistics=True, group_size=4), X[:, 0, 0])
    wanted, mean, _ = pytorch(X[:, 0, 0], 4, 0.1)
    close(y, wanted)
    close(stats["mean"], mean)


@pytest.mark.parametrize("group_size", [None, 2])
def test_gradients_pass_through_the_batch_statistics(group_size):
    """dx = scale / std * (dy - mean dy - xhat * mean(dy * xhat)), the means being those of the group."""
    layer = BatchNorm(batch_statistics=True, group_size=group_size)
    dy = np.random.default_rng(1).standard_normal(X.shape).astype(np.float32)

    def loss(x, params):
        return (train(layer, x, {"params": params, "batch_stats": STATS})[0] * dy).sum()

    dx, dparams = jax.jit(jax.grad(loss, (0, 1)))(X, PARAMS)
    n = group_size or 8
    grouped, by = (a.astype(float).reshape(8 // n, -1, C) for a in (X, dy))
    std = np.sqrt(grouped.var(1, keepdims=True) + 1e-5)
    xhat = (grouped - grouped.mean(1, keepdims=True)) / std
    inner = by - by.mean(1, keepdims=True) - xhat * (by * xhat).mean(1, keepdims=True)
    close(dx, (PARAMS["scale"] / std * inner).reshape(X.shape), 1e-4)
    close(dparams["scale"], (by * xhat).sum((0, 1)), 1e-4)
    close(dparams["bias"], by.sum((0, 1)), 1e-4)


@pytest.mark.parametrize("layer", [BatchNorm(), BatchNorm(batch_statistics=True, group_size=3)])
def test_inference_uses_running_statistics(layer):
    close(layer.apply(VARIABLES, X), normalised(X, STATS["mean"], STATS["var"]))


def test_frozen_statistics_stay_in_training_while_scale_and_bias_have_gradients():
    y, stats = train(BatchNorm(), X)
    close(y, normalised(X, STATS["mean"], STATS["var"]))
    assert all((stats[name] == STATS[name]).all() for name in STATS)
    grads = jax.grad(lambda p: train(BatchNorm(), X, {**VARIABLES, "params": p})[0].sum())(PARAMS)
    close(grads["scale"], ((X - STATS["mean"]) / np.sqrt(STATS["var"] + 1e-5)).sum((0, 1, 2)), 1e-4)
    close(grads["bias"], np.full(C, 48))


def test_what_is_frozen_costs_no_backward_pass():
    """Sums over positions are what the vectors' gradients are made of."""

    def loss(x, params):
        return jnp.square(BatchNorm().apply({**VARIABLES, "params": params}, x)).mean()

    frozen = str(jax.make_jaxpr(jax.grad(loss, 0))(X, PARAMS))
    learning = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(X, PARAMS))
    assert frozen.count("reduce_sum") == 1 < learning.count("reduce_sum")  # 1: the loss's own


@pytest.mark.parametrize("layer", [BatchNorm(), BatchNorm(batch_statistics=True, group_size=3)])
def test_calibration_measures_the_batch_and_normalises_by_it(layer):
    y, new = layer.apply(VARIABLES, X, mutable=["batch_stats", CALIBRATION])
    values = X.reshape(-1, C).astype(float)
    assert new.keys() == {"batch_stats"}
    close(new["batch_stats"]["mean"], values.mean(0))
    close(new["batch_stats"]["var"], values.var(0))
    close(y, normalised(X, values.mean(0), values.var(0)))


@pytest.mark.parametrize("group_size", [None, 3, 4])
def test_eight_devices_have_the_statistics_of_one(group_size):
    """Each has three images, so a group of four lies on two; they exchange vectors and no activations."""
    layer = BatchNorm(batch_statistics=True, group_size=group_size)

    def step(x, params):
        def loss(params):
            y, stats = train(layer, x, {"params": params, "batch_stats": STATS})
            return jnp.square(y).mean(), (y, stats)

        return jax.grad(loss, has_aux=True)(params)

    mesh, x = data_mesh(jax.devices()[:8]), np.concatenate([X, 2 * X, X - 1])
    spread = jax.device_put(x, split(mesh)), jax.device_put(PARAMS, replicated(mesh))
    program = jax.jit(step).lower(*spread).compile()
    jax.tree.map(close, program(*spread), jax.jit(step)(x, PARAMS))
    exchanged = re.findall(r"= (\S+) (?:all-gather|all-to-all|collective-permute)\(", program.as_text())
    assert not [shape for shape in exchanged if ",2,3,4]" in shape], exchanged


def test_a_batch_that_does_not_divide_into_groups_is_refused():
    with pytest.raises(ValueError, match=r"8 images is no multiple of batch norm's group_size=3"):
        train(BatchNorm(batch_statistics=True, group_size=3), X)


def test_a_single_value_has_no_variance_to_train_on():
    with pytest.raises(ValueError, match="more than one value per channel"):
        train(BatchNorm(batch_statistics=True, group_size=1), X[:, :1, :1])


def test_fresh_batch_norm_is_the_identity_also_where_one_image_is_no_group():
    layer = BatchNorm(batch_statistics=True, group_size=5, epsilon=0)
    variables = layer.init(jax.random.key(0), X[:1])
    np.testing.assert_array_equal(layer.apply(variables, X), X)


def group_norm(image, groups):
    """PyTorch's of one image [H, W, C], without padding."""
    grouped = image.astype(float).reshape(*image.shape[:2], groups, -1)
    mean, var = grouped.mean((0, 1, 3), keepdims=True), grouped.var((0, 1, 3), keepdims=True)
    return ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(image.shape) * PARAMS["scale"] + PARAMS["bias"]


def test_group_norm_by_hand():
    close(apply(GroupNorm(2), X), np.stack([group_norm(image, 2) for image in X]))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=3, max_size=3), st.integers(0, 99))
def test_group_norm_of_padded_images_is_that_of_the_images(sizes, seed):
    x = np.random.default_rng(seed).standard_normal((3, 5, 6, C)).astype(np.float32) + 2
    padded = np.where(valid_mask(jnp.array(sizes), 5, 6), x, np.nan)
    found = apply(GroupNorm(2), padded, jnp.array(sizes))
    for image, after, (height, width) in zip(x, found, sizes, strict=True):
        close(after[:height, :width], group_norm(image[:height, :width], 2), 1e-4)


def test_layer_norm_by_hand_and_what_lies_around_an_image_changes_nothing():
    x = X.astype(float)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    close(apply(LayerNorm(), X), normalised(x, mean, var))
    close(apply(LayerNorm(epsilon=10.0), X), normalised(x, mean, var, 10))
    padded = np.where(valid_mask(jnp.array([[1, 2]] * 8), 2, 3), X, np.nan)
    close(apply(LayerNorm(), padded)[:, :1, :2], normalised(x, mean, var)[:, :1, :2])


@pytest.mark.parametrize("layer", [GroupNorm(1), LayerNorm()])
def test_variances_are_right_where_means_are_large(layer):
    """E[x^2] - E[x]^2, Flax's default, would be 0 or 32 here, and E[(x - E[x])^2] is 1.25."""
    x = np.float32([0, 1, 2, 3]).reshape(1, 1, 1, 4) + 10_000
    close(
        layer.apply({"params": {"scale": np.ones(4), "bias": np.zeros(4)}}, x).ravel(),
        np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25),
        1e-4,
    )


@pytest.mark.parametrize("make", [BatchNorm, lambda **kw: GroupNorm(2, **kw), LayerNorm])
def test_results_have_the_type_asked_for_and_parameters_are_float32(make):
    layer = make(dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), X.astype(jnp.bfloat16))
    assert layer.apply(variables, X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
