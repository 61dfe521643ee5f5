"""A system of another kind, of which nothing in the package knows: two networks at stride 4 that see BGR and
whose batch norms learn, over groups of two images, learn together from label maps, by AdamW, in steps."""

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wsss_jax import interrupt
from wsss_jax.data.loader import BatchLoader
from wsss_jax.errors import Interrupted
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.models.classifier import Scores
from wsss_jax.models.layers import Conv
from wsss_jax.models.norms import BatchNorm
from wsss_jax.ops.preprocess import Preprocess
from wsss_jax.ops.valid import after_stride, global_average, zero_outside
from wsss_jax.sharding import data_mesh
from wsss_jax.task import CamRule, Outcome, Task, Term
from wsss_jax.training.checkpoints import Checkpoints, restore
from wsss_jax.training.initial import fresh_variables
from wsss_jax.training.loop import Optimizer, Plan, Trainer
from wsss_jax.training.metrics import MetricWriter
from wsss_jax.training.optimizer import adamw

VOID, STEPS, IDS = 255, 4, tuple("abcdefghijklmnopqrstuvwxy")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


class Backbone(nn.Module):
    stride: ClassVar = 4
    preprocess: ClassVar = Preprocess(mean=(104.0, 117.0, 123.0), std=(60.0,) * 3, scale=1.0, bgr=True)

    @nn.compact
    def __call__(self, x, sizes=None):
        for name in ("c1", "c2"):
            x = Conv(8, 3, 2, name=name)(zero_outside(x, sizes))
            x = nn.relu(BatchNorm(batch_statistics=True, group_size=2, name=f"{name}_norm")(x))
            sizes = after_stride(sizes, 2)
        return Conv(4, 1, name="head")(x)  # background and three classes


@dataclass(frozen=True)
class Toy(Task, CamRule):
    name, terms, group_size = "toy", ("loss_labels", "loss_agree"), 2
    networks: ClassVar = {"one": Backbone(), "other": Backbone()}

    def loss(self, variables, batch, keys, progress, maximum=None):
        scores, state = {}, {}
        for name, net in self.networks.items():
            scores[name], state[name] = net.apply(variables[name], batch["images"], mutable=["batch_stats"])
        one, other = map(nn.log_softmax, scores.values())
        known, labels = batch["label_map"] != VOID, batch["label_map"].astype(jnp.int32)
        cross = -jnp.take_along_axis(one, jnp.where(known, labels, 0)[..., None], -1)[..., 0]
        labelled = Term(jnp.where(known, cross, 0).sum((1, 2)), known.sum((1, 2)))
        apart = jnp.abs(jnp.exp(one) - jnp.exp(other)).mean((1, 2, 3))
        return Outcome({"loss_labels": labelled, "loss_agree": Term(apart, weight=0.5)}, state)

    def cam(self, variables, images, sizes):
        maps = nn.relu(self.networks["one"].apply(variables["one"], images, sizes)[..., 1:])
        return Scores(maps, global_average(maps, after_stride(sizes, self.stride)))


def sample(image_id, rng):
    labels, image = rng.integers(0, 4, (8, 8), np.uint8), rng.integers(0, 256, (32, 32, 3), np.uint8)
    labels[:, rng.integers(1, 9) :] = VOID  # so that images differ in how much is known of them
    return {"image": image, "box": np.array([0, 32, 0, 28]), "label_map": labels}


def train(folder, devices=1, accumulation=1):
    rate = optax.constant_schedule(0.01)
    numbers = {"weight_decay": 0.01, "epsilon": 0.01}  # the default makes steps of rounding errors
    make = functools.partial(adamw, groups={"weights": (1, 1)}, schedule=rate, **numbers)
    sizes = {"batch_size": 8, "accumulation": accumulation, "steps_per_epoch": 3, "total_steps": STEPS}
    plan, mesh = Plan(**sizes, seed=0, log_every=2), data_mesh(jax.devices()[:devices])
    with Checkpoints(folder) as checkpoints:
        trainer = Trainer(Toy(), Optimizer(make, rate), plan, mesh, checkpoints)
        start = {name: fresh_variables(network, 0) for name, network in Toy.networks.items()}
        step = trainer.start(start, checkpoints.newest())
        with BatchLoader(sample, IDS, batch_size=8, seed=0, start_batch=step) as loader:
            trainer.run(loader, MetricWriter(folder, step))
    learnt = restore(folder / str(STEPS)).networks
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), start, learnt))
    assert min(moved) > 1e-5  # weights and statistics of both networks
    return learnt


trained = pytest.fixture(lambda tmp_path_factory: train(tmp_path_factory.mktemp("toy")), scope="module")


@pytest.mark.parametrize(("devices", "accumulation"), [(8, 1), (1, 2), (2, 4), (1, 1)])
def test_stops_devices_and_accumulation_change_nothing(trained, tmp_path, monkeypatch, devices, accumulation):
    monkeypatch.setattr(interrupt, "_requested", devices == accumulation)
    if devices == accumulation:
        with pytest.raises(Interrupted, match="saved at step 1 of 4"):
            train(tmp_path)
        monkeypatch.setattr(interrupt, "_requested", False)
    found = train(tmp_path, devices, accumulation)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, trained)


def test_maps_in_buckets_are_those_of_the_images_alone(trained):
    cut = {"a": IMAGE[:, :28], "b": IMAGE[:32]}
    source = SimpleNamespace(size=lambda i: cut[i].shape[:2], image=cut.get, classes="abc")
    settings = InferenceSettings(scales=(1.0,), flip=False, class_filter="all", batch_size=2, max_buckets=1)
    predictor = Predictor(Toy(), data_mesh(jax.devices()[:1]), settings)
    (found,) = predictor.predict(trained, source, plan_batches(source, list(cut), settings))
    for prediction in found:
        pixels, size = cut[prediction.image_id], np.array([source.size(prediction.image_id)])
        maps = Toy().cam(trained, Toy().preprocess.images(pixels[None]), None).maps
        alone = Toy().finish(Toy().resize(maps, size, size, pixels.shape[:2]), size)[0]
        np.testing.assert_allclose(prediction.maps.planes, alone.transpose(2, 0, 1), atol=1e-5)
        assert prediction.maps.planes.max() > 0.9
