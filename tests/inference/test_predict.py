"""Padded, batched, many-device inference equals the plain network on each image alone."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.helpers.networks import narrow_cam, narrow_cpn, narrow_cse, narrow_variables, relative
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import ConfigError
from wsss_jax.inference import predict as predict_module
from wsss_jax.inference.multiscale import Cams, PaddedBatch
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, Predictor, plan_batches
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.sharding import data_mesh

SIZES = {"a": (30, 41), "b": (41, 30), "c": (17, 40), "d": (36, 33), "e": (40, 24)}
GIVEN = {"a": (1, 4), "b": (0,), "c": (2, 3, 5), "d": (5,), "e": (0, 1)}
SETTINGS = InferenceSettings(scales=(1.0,), flip=False, class_filter="given", batch_size=2, max_buckets=2)


class Pictures:
    """A source of noise images of odd sizes; everything else is not asked for."""

    name = "noise"
    classes = tuple("uvwxyz")

    def size(self, image_id):
        return SIZES[image_id]

    def image(self, image_id):
        rng = np.random.default_rng(ord(image_id))
        return rng.integers(0, 256, (*SIZES[image_id], 3), dtype=np.uint8)


def predict(method, settings, devices=1, classes=GIVEN, ids=tuple(SIZES)):
    """Predictions by id, the order in which they came, and the predictor."""
    source, variables = Pictures(), narrow_variables(method)
    predictor = Predictor(method, data_mesh(jax.devices()[:devices]), settings)
    batches = plan_batches(source, ids, settings)
    found = [p for batch in predictor.predict(variables, source, batches, classes) for p in batch]
    assert [p.image_id for p in found] == [i for batch in batches for i in batch.image_ids]
    return {p.image_id: p for p in found}, predictor


def alone(method, image_id, scales, flip, relu_first):
    """Maps [C, H, W] of all classes and mean logits by the network itself; nothing is padded."""
    network = method.networks[method.name]
    apply, resize = jax.jit(network.apply), jax.jit(resize_bilinear, static_argnums=1)
    variables = narrow_variables(method)[method.name]
    picture = Pictures().image(image_id)
    total, logits = 0.0, []
    for scale in scales:
        for step in (1, -1) if flip else (1,):
            scores = apply(variables, IMAGENET.images(rescale(picture, scale)[None, :, ::step]))
            maps = scores.maps[:, :, ::step]
            maps = resize(jax.nn.relu(maps) if relu_first else maps, picture.shape[:2])
            total += np.maximum(np.asarray(maps)[0], 0)
            logits.append(np.asarray(scores.logits)[0])
    return (total / (total.max((0, 1)) + 1e-5)).transpose(2, 0, 1), np.mean(logits, 0)


@pytest.mark.parametrize(("make", "relu_first"), [(narrow_cam, True), (narrow_cse, False)])
def test_maps_are_those_of_each_picture_alone(make, relu_first):
    method, ids = make(), ("a", "c")
    settings = dataclasses.replace(SETTINGS, scales=(0.5, 1.0), flip=True, max_buckets=1)
    found, predictor = predict(method, settings, ids=ids)
    for image_id in ids:
        maps, logits = alone(method, image_id, settings.scales, True, relu_first)
        prediction = found[image_id]
        np.testing.assert_array_equal(prediction.maps.class_ids, GIVEN[image_id])
        assert prediction.maps.planes.shape == (len(GIVEN[image_id]), *SIZES[image_id])
        np.testing.assert_allclose(prediction.maps.planes, maps[list(GIVEN[image_id])], atol=1e-4)
        assert relative(prediction.logits, logits) < 1e-5
    assert predictor.program.compiled == 1


@pytest.fixture(scope="module")
def every_class():
    return predict(narrow_cam(), dataclasses.replace(SETTINGS, class_filter="all"), classes=None)


def test_filter_all_gives_every_class(every_class):
    for image_id, p in every_class[0].items():
        np.testing.assert_array_equal(p.maps.class_ids, range(6))
        assert p.maps.planes.shape == (6, *SIZES[image_id]) and p.maps.planes.dtype == np.float32
        assert p.maps.planes.min() >= 0 and p.maps.planes.max() <= 1


def test_filter_predicted_gives_positive_logits_or_the_best(every_class):
    settings = dataclasses.replace(SETTINGS, class_filter="predicted")
    found, _ = predict(narrow_cam(), settings, classes=None)
    for image_id, p in every_class[0].items():
        wanted = np.flatnonzero(p.logits > 0)
        wanted = wanted if len(wanted) else [p.logits.argmax()]
        assert len(wanted) < 6
        np.testing.assert_array_equal(found[image_id].maps.class_ids, wanted)
        np.testing.assert_array_equal(found[image_id].maps.planes, p.maps.planes[wanted])


def test_predicted_without_positive_logit_is_the_likeliest_class():
    method, settings = narrow_cam(), dataclasses.replace(SETTINGS, class_filter="predicted")
    predictor = Predictor(method, data_mesh(jax.devices()[:1]), settings)
    batch, cams = PlannedBatch((4, 4), ("a",)), Cams(np.zeros((1, 3, 4, 4)), np.array([[-3.0, -1, -2]]), None)
    padded = PaddedBatch((), (), np.array([[2, 3]]), np.arange(3)[None])
    (prediction,) = predictor._collect(batch, padded, cams)
    np.testing.assert_array_equal(prediction.maps.class_ids, [1])
    assert prediction.maps.planes.shape == (1, 2, 3) and prediction.reduced is None


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 1), (1, 3), (8, 3)])
def test_devices_and_batch_sizes_change_nothing(every_class, devices, batch_size):
    settings = dataclasses.replace(SETTINGS, batch_size=batch_size, max_buckets=1)
    found, predictor = predict(narrow_cam(), settings, devices)
    assert set(found) == set(SIZES)
    for image_id, p in found.items():
        np.testing.assert_array_equal(p.maps.class_ids, GIVEN[image_id])
        np.testing.assert_allclose(
            p.maps.planes, every_class[0][image_id].maps.planes[list(GIVEN[image_id])], atol=1e-5
        )
    assert predictor.program.compiled == 1


def test_cpn_is_the_same_in_any_bucket_and_on_any_number_of_devices():
    settings = dataclasses.replace(
        SETTINGS, scales=(1.0,), flip=True, class_filter="all", max_buckets=1, batch_size=3
    )
    found, _ = predict(narrow_cpn(), settings, devices=8, classes=None)
    own_buckets = dataclasses.replace(settings, max_buckets=5, batch_size=1)
    # Not picture d: two classes are strongest at one of its nine positions, both divided by that very
    # maximum, so that the last digit decides which of them is spread, as it would in CPN's own program.
    for image_id, p in predict(narrow_cpn(), own_buckets, classes=None, ids=("a", "c"))[0].items():
        np.testing.assert_allclose(found[image_id].maps.planes, p.maps.planes, atol=1e-5)
        assert relative(found[image_id].logits, p.logits) < 1e-5
        assert p.maps.planes.min() == 0 and 0.4 < p.maps.planes.max() <= 0.5


def test_programs_are_no_more_than_buckets(every_class):
    assert every_class[1].program.compiled == 2


def test_plan_holds_every_picture_once_biggest_bucket_first():
    batches = plan_batches(Pictures(), tuple(SIZES), SETTINGS)
    assert sorted(i for batch in batches for i in batch.image_ids) == sorted(SIZES)
    areas = [h * w for (h, w), _ in batches]
    assert areas == sorted(areas, reverse=True)
    for bucket, ids in batches:
        assert 1 <= len(ids) <= SETTINGS.batch_size
        assert all(SIZES[i][0] <= bucket[0] and SIZES[i][1] <= bucket[1] for i in ids)


@pytest.mark.parametrize(
    ("devices", "batch_size", "pictures"),
    [(1, 8, [8, 8, 4, 1, 1]), (2, 8, [8, 8, 4, 2, 2]), (8, 3, [3, 3, 3, 3, 3])],
)
def test_batches_of_large_pictures_have_fewer(devices, batch_size, pictures):
    """A batch has no more pixels than one of the usual size, or one image per device."""
    settings = dataclasses.replace(SETTINGS, batch_size=batch_size)
    buckets = [(64, 64), (512, 512), (512, 1024), (2000, 3000), (4000, 6000)]
    assert [settings.images(bucket, devices) for bucket in buckets] == pictures
    rows = [settings.rows(bucket, devices) for bucket in buckets]
    assert rows == [-(-count // devices) * devices for count in pictures]


def test_one_large_picture_is_computed_by_itself(every_class, monkeypatch):
    """Four times the usual area here, as 4000 x 6000 pixels are 90 times that of VOC's images."""
    monkeypatch.setattr(predict_module, "_USUAL_AREA", 48 * 48 // 4)
    settings = dataclasses.replace(SETTINGS, batch_size=4, max_buckets=1)
    found, predictor = predict(narrow_cam(), settings)
    assert [len(b.image_ids) for b in plan_batches(Pictures(), tuple(SIZES), settings)] == [1] * 5
    assert predictor.program.compiled == 1
    for image_id, p in found.items():
        np.testing.assert_allclose(
            p.maps.planes, every_class[0][image_id].maps.planes[list(GIVEN[image_id])], atol=1e-5
        )
    source, batches = Pictures(), plan_batches(Pictures(), tuple(SIZES), settings)
    padded = [p for _, p in predict_module.padded_batches(source, batches, settings, 1, GIVEN)]
    assert {p.images[0].shape[0] for p in padded} == {1}


def test_a_picture_without_class_has_no_map():
    found, _ = predict(
        narrow_cam(), dataclasses.replace(SETTINGS, max_buckets=1), classes={"a": ()}, ids=("a",)
    )
    assert found["a"].maps.class_ids.shape == (0,) and found["a"].maps.planes.shape == (0, *SIZES["a"])


def test_unknown_filter():
    with pytest.raises(ConfigError, match="class_filter is 'some': must be 'given', 'predicted' or 'all'"):
        dataclasses.replace(SETTINGS, class_filter="some")
