"""WaveCAM's training step: batch statistics of the global batch, and what learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.networks import narrow_batch, narrow_variables, relative
from wsss_jax.sharding import data_mesh, put_batch, replicated
from wsss_jax.systems.wave_cam.network import Predictor, WaveClassifier
from wsss_jax.systems.wave_cam.task import WaveCam
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.step import first_state, make_train_step, partition

# Crops of 24 pixels have 2 x 2 positions, and so 8 channels.
METHOD = WaveCam(
    network=WaveClassifier(6, width=1 / 256, blocks=(1, 1, 1, 1)),
    predictor=Predictor(6, 8),
    frozen=("conv1", "bn1"),
)


def two_steps(devices):
    """Loss, weights and statistics after two steps; one image shows no class."""
    mesh = data_mesh(jax.devices()[:devices])
    parted = partition(jax.tree.map(jnp.array, narrow_variables(METHOD)), METHOD)
    groups = {path: METHOD.group(tuple(path.split("/"))) for path in parted.trainable}
    numbers = {"learning_rate": 0.05, "momentum": 1e-4, "weight_decay": 1e-4, "power": 0.9, "max_step": 4}
    optimizer = polynomial_sgd(groups, **numbers)
    state = first_state(parted, optimizer, METHOD)
    state, frozen, key = jax.device_put((state, parted.frozen, jax.random.key(7)), replicated(mesh))
    step = make_train_step(METHOD, optimizer, 2, mesh)
    for seed in range(2):
        batch = narrow_batch(seed=seed)
        batch["labels"][1] = 0
        state = step(state, frozen, put_batch(batch, mesh, 1), key)
    return parted, state


@pytest.fixture(scope="module")
def alone():
    return two_steps(1)


def test_eight_devices_train_as_one(alone):
    """Each has one image, whose own statistics would be others."""
    (_, wanted), (_, found) = alone, two_steps(8)
    for name in ("loss", "loss_ce", "accuracy_ce"):
        np.testing.assert_allclose(found.totals[name], wanted.totals[name], rtol=1e-5)
    for path, value in {**wanted.trainable, **wanted.state}.items():
        assert relative({**found.trainable, **found.state}[path], value) < 1e-5, path


def test_what_learns_and_what_changes_without_a_gradient(alone):
    start, end = alone
    assert {path for path in start.frozen if "batch_stats" not in path} == {
        f"wavecam_net/params/{path}"
        for path in ("trunk/conv1/kernel", "trunk/bn1/scale", "trunk/bn1/bias", "bg/kernel")
    } | {"wavecam_predictor/params/wave/fc_c/kernel"}
    statistics = {
        f"wavecam_predictor/batch_stats/wave/theta_{x}_conv_1/{y}" for x in "RI" for y in ("mean", "var")
    }
    assert set(start.state) == statistics
    begun = narrow_variables(METHOD)["wavecam_predictor"]["batch_stats"]["wave"]["theta_R_conv_1"]["mean"]
    assert relative(end.state["wavecam_predictor/batch_stats/wave/theta_R_conv_1/mean"], begun) > 1e-3
    rates = {METHOD.group(tuple(path.split("/"))) for path in start.trainable if "wavecam_net" in path}
    assert rates == {"pretrained"}
    assert METHOD.group(("wavecam_predictor", "params", "classifier", "kernel")) == "new"
