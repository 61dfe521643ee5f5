"""Two steps of IRN's training program at radius 10, and the mean displacement that it takes afterwards."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, file_of
from tests.helpers.networks import narrow_variables, relative
from tests.helpers.runs import load
from wsss_jax import interrupt
from wsss_jax.errors import Interrupted
from wsss_jax.sharding import data_mesh, put_batch
from wsss_jax.systems.irn.displacement import displacement_mean
from wsss_jax.systems.irn.network import Irn
from wsss_jax.systems.irn.task import InterPixel
from wsss_jax.systems.irn.train import irn_optimizer
from wsss_jax.training.step import first_state, make_train_step, merge, partition
from wsss_jax.weights import from_variables, to_variables


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "irn_train.npz"))


def run_of(images, devices):
    """What a run has to say to the mean's program."""
    config = load("irn_voc")
    config.loader.threads = 2
    source = SimpleNamespace(image=lambda image_id: images[int(image_id)])
    return SimpleNamespace(config=config, source=source, mesh=data_mesh(jax.devices()[:devices]))


def some_of(values):
    """Every s-th number, as the golden file has them."""
    flat = np.asarray(values).ravel()
    step = math.ceil(flat.size / 64)
    while flat.size > 64 and (step % 2 == 0 or step % 3 == 0):
        step += 1
    return flat[::step]


@pytest.mark.slow
def test_two_steps_and_the_mean_displacement_are_irns(golden):
    """On two devices, a batch of two images: the terms and the mean are those of the global batch."""
    start = to_variables(file_of("irn"), "irn")
    start["batch_stats"]["mean_shift"]["mean"] = np.zeros(2, np.float32)
    task, run = InterPixel(network=Irn(), radius=10), run_of([], 2)
    parted = partition({"irn": start}, task)
    optimizer = irn_optimizer(run, 2)
    made = optimizer.make({path: task.group(tuple(path.split("/"))) for path in parted.trainable})
    state, step = first_state(parted, made, task), make_train_step(task, made, 2, run.mesh)
    before = from_variables(start, "irn")
    for number in (1, 2):
        own = slice(2 * number - 2, 2 * number)
        boxes = np.tile(np.array([0, 96, 0, 96], np.int32), (2, 1))
        labels = golden["labels"][own, 2::4, 2::4]
        np.testing.assert_array_equal(labels, golden["labels_reduced"][own])
        batch = {"image": golden["images"][own], "box": boxes, "labels": labels}
        totals = {name: float(x) for name, x in state.totals.items()}
        state = step(state, parted.frozen, put_batch(batch, run.mesh, 1), jax.random.key(0))
        terms = {name: float(x) - totals[name] for name, x in state.totals.items()}
        tolerance = 1e-4 if number == 1 else 1e-3
        found = (
            (terms["loss_bg"] + terms["loss_fg"]) / 2,
            terms["loss_neg"],
            terms["loss_dp_fg"],
            terms["loss_dp_bg"],
        )
        np.testing.assert_allclose(found, golden[f"step{number}_terms"], rtol=tolerance)
        np.testing.assert_allclose(terms["loss"], golden[f"step{number}_loss"], rtol=tolerance)
        after = from_variables(merge(state.trainable, state.state, parted.frozen)["irn"], "irn")
        for name, norm in zip(golden["watch"], golden[f"step{number}_change_norms"], strict=True):
            change = np.linalg.norm(np.asarray(after[str(name)]) - np.asarray(before[str(name)]))
            np.testing.assert_allclose(change, norm, rtol=1e-3, atol=1e-7, err_msg=name)
            assert relative(some_of(after[str(name)]), golden[f"step{number}_new/{name}"]) < 1e-3, name
        before = after
        np.testing.assert_allclose(optimizer.schedule(number - 1), golden[f"step{number}_lr"][0], rtol=1e-6)
    images = [golden[f"mean_image{i}"] for i in range(5)]
    variables = merge(state.trainable, state.state, parted.frozen)["irn"]
    ids = tuple("01234")
    mean = displacement_mean(run_of(images, 2), task, variables, ids, batch_size=2, crop=96)
    assert relative(mean, golden["displacement_mean"]) < 1e-3


def narrow():
    task = InterPixel(network=Irn(width=1 / 32, blocks=(1, 1, 1, 1)), radius=3)
    return task, narrow_variables(task)["irn"]


def test_the_mean_is_of_whole_batches_on_any_number_of_devices(monkeypatch):
    """Of nine images eight are in two batches of four; smaller ones are padded with the mean colour."""
    task, variables = narrow()
    rng = np.random.default_rng(0)
    sizes = [(24, 24), (40, 20), (16, 30), *[(24, 32)] * 6]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    ids = tuple("012345678")
    means = [
        displacement_mean(run_of(images, devices), task, variables, ids, batch_size=4, crop=24)
        for devices in (1, 4)
    ]
    assert relative(means[1], means[0]) < 1e-5
    each = []
    for image in images[:8]:
        pixels = np.zeros((1, 24, 24, 3), np.float32)
        window = image[:24, :24]
        pixels[0, : window.shape[0], : window.shape[1]] = task.network.preprocess.images(window)
        each.append(task.network.apply(variables, pixels).displacements.mean((0, 1, 2)))
    assert relative(means[0], np.mean(each, 0)) < 1e-5
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(Interrupted, match="mean displacement"):
        displacement_mean(run_of(images, 1), task, variables, ids, batch_size=4, crop=24)
