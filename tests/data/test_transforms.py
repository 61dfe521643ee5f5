import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsss_jax.data import transforms
from wsss_jax.data.transforms import ColorJitter, Recipe
from wsss_jax.errors import ConfigError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def coordinates(height, width):
    """An image whose pixel (y, x) is (y, x, 255)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.full_like(y, 255)], axis=2).astype(np.uint8)


def chi_square(counts):
    counts = np.asarray(counts, float)
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((10, 20), 40, (20, 40)),
        ((20, 10), 40, (40, 20)),
        ((30, 30), 17, (17, 17)),
        ((333, 500), 256, (170, 256)),  # 170.496
        ((5, 10), 5, (2, 5)),  # 2.5 rounds to even
        ((7, 10), 5, (4, 5)),  # 3.5 rounds to even
        ((1, 500), 100, (1, 100)),  # 0.2 would be nothing
    ],
)
def test_resize_long_sizes(shape, target, expected):
    out = transforms.random_resize_long(noise(*shape), np.random.default_rng(0), (target, target))
    assert out.shape == (*expected, 3)
    assert out.dtype == np.uint8


def test_resize_long_is_pil_bicubic():
    image = noise(24, 36)
    out = transforms.random_resize_long(image, np.random.default_rng(0), (50, 50))
    picture = Image.fromarray(image)
    np.testing.assert_array_equal(out, picture.resize((50, 33), Image.Resampling.BICUBIC))
    assert (
        np.abs(out.astype(int) - np.asarray(picture.resize((50, 33), Image.Resampling.BILINEAR))).max() > 10
    )


def test_resize_long_target_is_uniform_with_both_ends():
    rng = np.random.default_rng(1)
    image = noise(4, 8)
    sides = [transforms.random_resize_long(image, rng, (10, 14)).shape[1] for _ in range(2000)]
    counts = np.bincount(sides, minlength=15)[10:]
    assert counts.sum() == 2000
    assert chi_square(counts) < 18.5  # 4 degrees of freedom, p = 0.001


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 20), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_resize_long_bounds_and_aspect(height, width, low, extra, seed):
    out = transforms.random_resize_long(
        np.zeros((height, width, 3), np.uint8), np.random.default_rng(seed), (low, low + extra)
    )
    long, short = max(out.shape[:2]), min(out.shape[:2])
    assert low <= long <= low + extra
    assert abs(short - max(1, long * min(height, width) / max(height, width))) <= 0.5
    assert (out.shape[0] <= out.shape[1]) == (height <= width) or long == short


def test_rescale():
    image = noise(5, 7)
    assert transforms.rescale(image, 1) is image
    assert transforms.rescale(image, 1.0) is image
    half = transforms.rescale(image, 0.5)
    assert half.shape == (2, 4, 3)  # 2.5 and 3.5 round to even
    np.testing.assert_array_equal(half, Image.fromarray(image).resize((4, 2), Image.Resampling.BICUBIC))
    assert transforms.rescale(image, 1.5).shape == (8, 10, 3)  # 7.5 and 10.5
    assert transforms.rescale(noise(1, 3), 0.25).shape == (1, 1, 3)


def test_flip_mirrors_half_of_the_pictures():
    rng = np.random.default_rng(2)
    image = coordinates(2, 3)
    flipped = [bool(transforms.random_flip(image, rng)[0, 0, 1]) for _ in range(1000)]
    assert chi_square([sum(flipped), 1000 - sum(flipped)]) < 10.8  # 1 degree of freedom, p = 0.001
    mirrored = next(
        out for out in (transforms.random_flip(image, rng) for _ in range(50)) if out[0, 0, 1] == 2
    )
    np.testing.assert_array_equal(mirrored, image[:, [2, 1, 0]])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_crop_box_agrees_with_pixels(height, width, crop, seed):
    image = coordinates(height, width)
    out, box = transforms.random_crop(image, np.random.default_rng(seed), crop)
    assert (out.shape, out.dtype, box.dtype) == ((crop, crop, 3), np.uint8, np.int32)
    top, bottom, left, right = box
    assert (bottom - top, right - left) == (min(height, crop), min(width, crop))
    assert 0 <= top < bottom <= crop and 0 <= left < right <= crop
    inside = np.zeros((crop, crop), bool)
    inside[top:bottom, left:right] = True
    assert (out[~inside] == 0).all()
    assert (out[inside][:, 2] == 255).all()
    row, column = out[top, left, :2]
    assert (row == 0 or height > crop) and (column == 0 or width > crop)
    np.testing.assert_array_equal(
        out[top:bottom, left:right], image[row : row + bottom - top, column : column + right - left]
    )


def test_crop_window_and_place_are_uniform():
    rng = np.random.default_rng(3)
    rows, places = np.zeros(5, int), np.zeros(5, int)
    pairs = set()
    for _ in range(2000):
        out, box = transforms.random_crop(coordinates(10, 2), rng, 6)  # windows 0..4, places 0..4
        rows[out[box[0], box[2], 0]] += 1
        places[box[2]] += 1
        pairs.add((out[box[0], box[2], 0], box[2]))
    assert chi_square(rows) < 18.5  # 4 degrees of freedom, p = 0.001
    assert chi_square(places) < 18.5
    assert len(pairs) == 25  # the axes are independent


def gray(*values):
    return Image.fromarray(np.repeat(np.array([values], np.uint8)[:, :, None], 3, axis=2))


def pixels(picture):
    return np.asarray(picture)[0].tolist()


def test_brightness_values():
    assert pixels(transforms.adjust_brightness(gray(100, 240), 1.25)) == [[125] * 3, [255] * 3]
    assert pixels(transforms.adjust_brightness(gray(100, 240), 0.5)) == [[50] * 3, [120] * 3]


def test_contrast_is_around_the_mean_gray():
    assert pixels(transforms.adjust_contrast(gray(100, 200), 0.5)) == [[125] * 3, [175] * 3]
    assert pixels(transforms.adjust_contrast(gray(100, 200), 1.25)) == [[87] * 3, [212] * 3]  # 87.5, 212.5


def test_saturation_is_around_each_pixels_gray():
    red = Image.new("RGB", (1, 1), (200, 0, 0))  # gray 59.8, rounded to 60
    assert pixels(transforms.adjust_saturation(red, 0.0)) == [[60, 60, 60]]
    assert pixels(transforms.adjust_saturation(red, 0.5)) == [[130, 30, 30]]
    assert pixels(transforms.adjust_saturation(red, 1.25)) == [[235, 0, 0]]  # -15 is clipped


def test_hue_turns_by_whole_steps_of_255():
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert pixels(transforms.adjust_hue(red, 85.5 / 255)) == [[0, 255, 0]]  # 85 of 255 steps is 120 degrees
    # 85 steps back from 0 is 171 in bytes, a little beyond the 240 degrees of blue: bytes wrap at 256.
    assert pixels(transforms.adjust_hue(red, -85.5 / 255)) == [[6, 0, 255]]
    assert pixels(transforms.adjust_hue(gray(7, 9), 0.1)) == [[7] * 3, [9] * 3]


def test_jitter_order_and_factors_are_uniform(monkeypatch):
    calls = []
    names = ("brightness", "contrast", "saturation", "hue")
    for name in names:
        record = lambda picture, factor, name=name: calls.append((name, factor)) or picture  # noqa: E731
        monkeypatch.setattr(transforms, f"adjust_{name}", record)
    rng, image = np.random.default_rng(4), noise(2, 2)
    for _ in range(2400):
        transforms.color_jitter(image, rng, ColorJitter())
    orders = [tuple(name for name, _ in calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert chi_square([orders.count(order) for order in itertools.permutations(names)]) < 49.7  # p = 0.001
    for name, low, high in (*((n, 0.7, 1.3) for n in names[:3]), ("hue", -0.1, 0.1)):
        factors = np.array([factor for called, factor in calls if called == name])
        counts, _ = np.histogram(factors, bins=10, range=(low, high))
        assert counts.sum() == len(factors) == 2400
        assert chi_square(counts) < 27.9  # 9 degrees of freedom, p = 0.001


def test_jitter_without_spread_changes_nothing():
    image = noise(6, 5)
    still = ColorJitter(brightness=0, contrast=0, saturation=0, hue=0)
    np.testing.assert_array_equal(transforms.color_jitter(image, np.random.default_rng(0), still), image)


def test_augment_is_resize_flip_jitter_crop_from_one_generator():
    image = noise(30, 40)
    recipe = Recipe(crop=24, resize_long=(20, 50))
    out, box = transforms.augment(image, np.random.default_rng(7), recipe)
    rng = np.random.default_rng(7)
    step = transforms.random_resize_long(image, rng, (20, 50))
    step = transforms.color_jitter(transforms.random_flip(step, rng), rng, ColorJitter())
    expected, expected_box = transforms.random_crop(step, rng, 24)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(box, expected_box)
    other, _ = transforms.augment(image, np.random.default_rng(8), recipe)
    assert (other != out).any()


def test_augment_with_everything_off_only_crops():
    image = coordinates(6, 8)
    recipe = Recipe(crop=10, flip=False, jitter=None)
    out, (top, bottom, left, right) = transforms.augment(image, np.random.default_rng(0), recipe)
    np.testing.assert_array_equal(out[top:bottom, left:right], image)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(crop=0), "crop is 0"),
        (lambda: Recipe(crop=4, resize_long=(9, 8)), r"resize_long is \(9, 8\)"),
        (lambda: Recipe(crop=4, resize_long=(0, 8)), r"resize_long is \(0, 8\)"),
        (lambda: ColorJitter(hue=0.6), "hue is 0.6"),
        (lambda: ColorJitter(contrast=-0.1), "contrast is -0.1"),
    ],
)
def test_bad_recipes_are_refused_with_the_value(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
