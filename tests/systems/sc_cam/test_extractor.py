"""SC-CAM's inference, padded, batched and on many devices, equals the plain network on each image alone."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from tests.helpers.networks import narrow_variables, relative
from wsss_jax.inference.predict import InferenceSettings, Predictor, plan_batches
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.sharding import data_mesh
from wsss_jax.systems.sc_cam.extractor import FeatureExtractor
from wsss_jax.systems.sc_cam.network import PooledFeatures, SubcategoryClassifier
from wsss_jax.systems.sc_cam.task import ScCam

K = 3
SETTINGS = InferenceSettings(scales=(1.0,), flip=False, class_filter="all", batch_size=2, max_buckets=2)


class Pictures:
    """A source of noise images of odd sizes; everything else is not asked for."""

    classes = tuple("uvwxyz")
    sizes: ClassVar = {"a": (30, 41), "b": (41, 30), "c": (17, 40)}

    def size(self, image_id):
        return self.sizes[image_id]

    def image(self, image_id):
        rng = np.random.default_rng(ord(image_id))
        return rng.integers(0, 256, (*self.sizes[image_id], 3), dtype=np.uint8)


def narrow(maps):
    network = SubcategoryClassifier(6, 6 * K, width=1 / 16, blocks=(0, 0, 0, 0))
    return ScCam(network=network, frozen_blocks=(), sub_weight=5.0, maps=maps)


def test_features_are_the_same_on_many_devices_and_without_padding():
    source, network = Pictures(), PooledFeatures(width=1 / 16, blocks=(0, 0, 0, 0))
    whole = narrow_variables(narrow("class"))["classifier"]
    variables = {collection: {"trunk": modules["trunk"]} for collection, modules in whole.items()}
    batches = plan_batches(source, tuple(source.sizes), SETTINGS)
    apply = jax.jit(network.apply)
    for devices in (1, 4):
        extractor = FeatureExtractor(network, data_mesh(jax.devices()[:devices]), SETTINGS)
        found = dict(one for batch in extractor.extract(variables, source, batches) for one in batch)
        assert found.keys() == source.sizes.keys() and extractor.compiled == len({b.bucket for b in batches})
        for image_id, feature in found.items():
            alone = apply(variables, IMAGENET.images(source.image(image_id)[None]))[0]
            assert relative(feature, alone) < 1e-4


def test_maps_of_sub_categories_are_summed_over_views_and_then_merged():
    """A class's k maps peak at different places in an image and its mirror image, so the order matters."""
    source, method, given = Pictures(), narrow("subcategories"), {"a": (1, 4), "b": (0,), "c": (2, 3)}
    settings = dataclasses.replace(SETTINGS, flip=True, class_filter="given")
    variables = narrow_variables(method)
    predictor = Predictor(method, data_mesh(jax.devices()[:1]), settings)
    batches = plan_batches(source, tuple(given), settings)
    apply, resize = jax.jit(method.network.apply), jax.jit(resize_bilinear, static_argnums=1)
    for p in (p for batch in predictor.predict(variables, source, batches, given) for p in batch):
        image, total = source.image(p.image_id), 0.0
        for step in (1, -1):
            scores = apply(variables["classifier"], IMAGENET.images(image[None, :, ::step])).subcategories
            maps = jax.nn.relu(scores.maps)[:, :, ::step]
            total += np.asarray(resize(maps, image.shape[:2]))[0]
        merged = total.reshape(*image.shape[:2], 6, K).max(-1)
        expected = (merged / (merged.max((0, 1)) + 1e-5)).transpose(2, 0, 1)[list(given[p.image_id])]
        np.testing.assert_array_equal(p.maps.class_ids, given[p.image_id])
        np.testing.assert_allclose(p.maps.planes, expected, rtol=1e-3, atol=1e-4)
