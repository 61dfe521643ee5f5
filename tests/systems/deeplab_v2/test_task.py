"""DeepLab-v2's loss, groups of images and groups of parameters, schedule and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, names
from tests.helpers.networks import narrow_variables
from tests.helpers.runs import load
from tests.systems.deeplab_v2.test_network import NARROW, NETWORK, published
from wsss_jax import weights
from wsss_jax.ops.losses import pixel_cross_entropy
from wsss_jax.sharding import data_mesh, put_batch
from wsss_jax.systems.deeplab_v2.network import DeepLabV2, logit_size
from wsss_jax.systems.deeplab_v2.system import optimizer
from wsss_jax.systems.deeplab_v2.task import VOID, DeepLabV2Task, shrunk_labels
from wsss_jax.training.initial import variable_shapes
from wsss_jax.training.step import first_state, make_train_step, merge, partition

SIZES = ("100", "50", "75")


def golden(name):
    return np.load(GOLDEN / f"{name}.npz")


def means(logits, labels):
    total, count = pixel_cross_entropy(logits, labels, VOID)
    return float(total.sum() / count.sum())


def test_labels_and_losses_of_given_logits():
    """Golden logits stand for the network."""
    z = golden("deeplabv2")
    logits = [z[f"train_logits_{size}"] for size in SIZES] + [z["eval_logits"]]
    terms = []
    for i, x in enumerate(logits):
        labels = shrunk_labels(jnp.asarray(z["loss_label"], jnp.uint8), x.shape[2:])
        np.testing.assert_array_equal(labels, z[f"loss_label_resized{i}"])
        terms.append(means(x.transpose(0, 2, 3, 1) * z["loss_logit_scale"], labels))
    np.testing.assert_allclose(terms, z["loss_terms"], rtol=1e-5)
    np.testing.assert_allclose(sum(terms) / 2, z["loss_iter"], rtol=1e-5)


def test_first_sub_batch_of_the_authors_loop():
    z = golden("deeplabv2_step")
    for i in range(4):
        wanted = z[f"first_labels{i}"]
        np.testing.assert_array_equal(shrunk_labels(z["labels"][:2], wanted.shape[1:]), wanted)
    found = means(z["first_logits"].transpose(0, 2, 3, 1), z["first_labels0"])
    np.testing.assert_allclose(found, z["loss_terms"][0, 0, 0], rtol=1e-5)


def test_every_parameter_is_in_the_authors_group():
    """Norms are in none; PyTorch's names by way of the converter."""
    task = DeepLabV2Task(network=DeepLabV2(20))
    groups = {}
    for entry in weights.NETWORKS[NETWORK].entries():
        if entry.path:
            groups.setdefault(task.group((task.name, *entry.path)), []).append(entry.torch)
    assert sorted(groups) == ["frozen", "new", "new_bias", "pretrained"]
    convolutions = [n for n, shape in names(NETWORK).items() if len(shape) == 4]
    assert groups["pretrained"] == [n for n in convolutions if "aspp" not in n]  # the stem's too
    assert groups["new"] == [f"base.aspp.c{i}.weight" for i in range(4)]
    assert groups["new_bias"] == [f"base.aspp.c{i}.bias" for i in range(4)]
    assert all(".bn." in name for name in groups["frozen"])


def test_rates_are_the_authors():
    z = golden("deeplabv2")
    schedule = optimizer(load("deeplab_v2_voc")).schedule
    found = [float(schedule(int(i) - 1)) for i in z["poly_iteration"]]
    np.testing.assert_allclose(found, z["poly_lr"][:, 0], rtol=1e-5)
    np.testing.assert_allclose(z["poly_lr"] / z["poly_lr"][:, :1], np.tile([1, 10, 20], (16, 1)), rtol=1e-5)


def batch_of(images, label_maps, index):
    h, w = images.shape[1:3]
    return {
        "image": images.astype(np.float32),
        "box": np.tile(np.array([0, h, 0, w], np.int32), (len(images), 1)),
        "label_map": label_maps,
        "index": np.asarray(index, np.int32),
    }


def narrow_batch():
    """Two groups of two; the last image only fills the second."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (4, 33, 33, 3)), rng.integers(0, 4, (4, 33, 33)).astype(np.uint8)
    labels[0, :20], labels[1, :, :4] = VOID, VOID  # so that images of a group differ in what is known
    return batch_of(images, labels, [4, 0, 7, -1])


class Step:
    """One training step, compiled once."""

    def __init__(self, task, variables, devices=1, accumulation=1):
        self.task, self.mesh, self.accumulation = task, data_mesh(jax.devices()[:devices]), accumulation
        self.parted = partition(variables, task)
        groups = {path: task.group(tuple(path.split("/"))) for path in self.parted.trainable}
        self.optimizer = optimizer(load("deeplab_v2_voc")).make(groups)
        self.run = make_train_step(task, self.optimizer, 1, self.mesh)

    def __call__(self, batch):
        """The variables after the step, and its metrics."""
        state = first_state(self.parted, self.optimizer, self.task)
        state = jax.tree.map(jnp.array, state)  # the step overwrites what it is given
        placed = put_batch(batch, self.mesh, self.accumulation)
        state = self.run(state, self.parted.frozen, placed, jax.random.key(0))
        return merge(state.trainable, self.parted.frozen), state.totals


@pytest.fixture(scope="module")
def narrow():
    task = DeepLabV2Task(network=NARROW, group_size=2)
    variables = narrow_variables(task)
    return task, variables, Step(task, variables)


def rows_of(rows):
    return {name: x[rows] for name, x in narrow_batch().items()}


def test_groups_are_averaged_and_fillers_do_not_count(narrow):
    """Of the second group only the first image counts, whatever the other one shows."""
    task, _, step = narrow
    _, metrics = step(narrow_batch())
    found = [float(metrics[name]) for name in task.terms]
    alone = [step(rows_of(rows))[1] for rows in ([0, 1, 0, 1], [2, 2, 2, 2])]
    wanted = [np.mean([float(each[name]) for each in alone]) for name in task.terms]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(float(metrics["loss"]), sum(found), rtol=1e-5)


def test_a_mean_is_over_the_labelled_pixels_of_a_group(narrow):
    """Not over those of its images: one of them has fewer."""
    step, side = narrow[2], logit_size(33)
    (a, n), (b, m) = (
        (
            float(step(rows_of([row] * 4))[1]["loss_full"]),
            int((shrunk_labels(narrow_batch()["label_map"], (side, side))[row] != VOID).sum()),
        )
        for row in (0, 1)
    )
    found = float(step(rows_of([0, 1, 0, 1]))[1]["loss_full"])
    assert n != m and found == pytest.approx((a * n + b * m) / (n + m), rel=1e-5)


def test_devices_and_accumulation_change_nothing(narrow):
    task, variables, step = narrow
    wanted, metrics = step(narrow_batch())
    found, others = Step(task, variables, devices=2, accumulation=2)(narrow_batch())
    np.testing.assert_allclose(float(others["loss"]), float(metrics["loss"]), rtol=1e-5)
    for a, b, start in zip(*map(jax.tree.leaves, (found, wanted, variables)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.abs(np.asarray(b) - start).max() + 1e-7)


def test_a_group_without_labels_counts_nothing(narrow):
    """PyTorch's mean of nothing is NaN, and so would be all weights."""
    step, batch = narrow[2], narrow_batch()
    batch["label_map"][2:] = VOID
    found, metrics = step(batch)
    assert np.isfinite(float(metrics["loss"]))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@pytest.mark.slow
def test_a_step_is_the_authors():
    """Iteration 1 of deeplab-pytorch's loop, at full width: two sub-batches of two images."""
    z = golden("deeplabv2_step")
    task = DeepLabV2Task(network=DeepLabV2(20), group_size=int(z["sub_batch"]))
    batch = batch_of(z["images_bgr"][:4, ..., ::-1], z["labels"][:4], range(4))
    start = {task.name: published(tamed=True)}
    found, metrics = Step(task, start)(batch)
    np.testing.assert_allclose(float(metrics["loss"]), z["losses"][0], rtol=1e-5)
    terms = z["loss_terms"][0].mean(0)
    np.testing.assert_allclose([float(metrics[n]) for n in task.terms], terms, rtol=1e-5)
    before, after = (weights.from_variables(x[task.name], NETWORK) for x in (start, found))
    for i, name in enumerate(z["watch"]):
        change = np.linalg.norm(after[name].astype(np.float64) - before[name])
        np.testing.assert_allclose(change, z["step1_change_norms"][i], rtol=1e-3, atol=1e-12)


def test_narrow_shapes_are_variables_of_the_converter():
    found = variable_shapes(DeepLabV2(20, width=1 / 16, blocks=(1, 2, 1, 1)))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), found)
    tensors = weights.from_variables(zeros, NETWORK, blocks=(1, 2, 1, 1))
    assert weights.detect_network(tensors) == NETWORK and weights.trunk_blocks(tensors) == (1, 2, 1, 1)
    back = weights.to_variables(tensors, NETWORK, blocks=(1, 2, 1, 1))
    assert jax.tree.map(np.shape, back) == jax.tree.map(np.shape, zeros)
