"""Scaling of images and maps, by hand."""

import jax.numpy as jnp
import numpy as np

from tests.helpers.golden import GOLDEN
from wsss_jax.ops.normalise import max_normalise, min_max_normalise
from wsss_jax.ops.preprocess import IMAGENET, Preprocess

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def test_images_are_standardised_by_channel():
    image = np.array([[[0, 0, 0], [255, 255, 255], [51, 102, 204]]], np.uint8)
    found = IMAGENET.images(image)
    wanted = (np.array([[[0, 0, 0], [1, 1, 1], [0.2, 0.4, 0.8]]]) - MEAN) / STD
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found.dtype == jnp.float32


def test_blue_comes_first_and_the_margin_is_black_where_a_recipe_has_it_so():
    caffe = Preprocess(mean=(104.0, 117.0, 123.0), scale=1.0, bgr=True, pad_first=True)
    crop = np.array([[[[0, 0, 0], [10, 20, 30]]]], np.uint8)
    found = caffe.crops(crop, np.array([[0, 1, 1, 2]], np.int32))[0, 0]
    np.testing.assert_allclose(found, [[-104, -117, -123], [30 - 104, 20 - 117, 10 - 123]])


def test_crops_are_zero_outside_the_picture():
    images = np.full((3, 3, 4, 3), 255, np.uint8)
    boxes = np.array([[1, 3, 2, 4], [0, 3, 0, 4], [2, 2, 0, 4]], np.int32)
    found = np.asarray(IMAGENET.crops(images, boxes))
    inside = np.zeros((3, 3, 4), bool)
    inside[0, 1:3, 2:4] = inside[1] = True  # ends are exclusive, and the third box is empty
    np.testing.assert_allclose(found[inside], np.broadcast_to((1 - MEAN) / STD, (inside.sum(), 3)), atol=1e-5)
    assert not found[~inside].any()


def test_each_map_is_divided_by_its_own_maximum():
    maps = np.zeros((2, 1, 3, 2), np.float32)
    maps[0, 0] = [[1, 0], [2, 30], [4, 60]]
    maps[1, 0] = [[8, 0], [0, 0], [4, 0]]
    found = np.asarray(max_normalise(maps))
    np.testing.assert_allclose(found[0, 0], [[0.25, 0], [0.5, 0.5], [1, 1]], atol=1e-5)
    np.testing.assert_allclose(found[1, 0], [[1, 0], [0, 0], [0.5, 0]], atol=1e-5)
    assert found.max() < 1  # by the 1e-5 of the references


def test_a_faint_map_is_not_blown_up():
    """1e-5 against 1e-5: a half; and a map of zeros stays zero instead of becoming NaN."""
    maps = np.array([1e-5, 0], np.float32).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(max_normalise(maps)[0, 0, 0], [0.5, 0], rtol=1e-5)


def test_what_lies_outside_the_picture_does_not_count():
    maps = np.array([1, 2, 900], np.float32).reshape(1, 1, 3, 1)
    found = max_normalise(maps, jnp.array([[1, 2]]))[0, 0, :, 0]
    np.testing.assert_allclose(found, [0.5, 1, 0], atol=1e-5)


def test_maps_are_stretched_between_their_own_extremes():
    maps = np.zeros((1, 1, 4, 2), np.float32)
    maps[0, 0] = [[-3, 2], [0, 4], [1, 6], [4, 3]]
    found = np.asarray(min_max_normalise(maps))[0, 0]
    np.testing.assert_allclose(found, [[0, 0], [0, 0.5], [0.25, 1], [1, 0.25]], atol=2e-5)
    assert found.min() == 0 and found.max() < 1


def test_stretching_sees_the_picture_only():
    maps = np.array([2, 3, 4, 0, 900], np.float32).reshape(1, 1, 5, 1)
    found = min_max_normalise(maps, jnp.array([[1, 3]]))[0, 0, :, 0]
    np.testing.assert_allclose(found, [0, 0.5, 1, 0, 0], atol=2e-5)


def test_stretching_is_that_of_the_authors():
    golden = np.load(GOLDEN / "cpn.npz")
    found = min_max_normalise(golden["small"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, golden["small_max_norm"], atol=1e-6)
