"""The drawn data set: deterministic, exact, balanced, and with a head and a body in every object."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.data.figures import FIGURES
from wsss_jax.data.shapes import Shapes
from wsss_jax.errors import ConfigError, DataError

SOURCE = Shapes(num_train=300, num_val=40, image_size=64, seed=3)


def _digest(source, image_id):
    arrays = (source.image(image_id), source.mask(image_id), source.labels(image_id))
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_ids_are_counted_per_split():
    assert SOURCE.ids("train")[:2] == ("train_00000", "train_00001")
    assert SOURCE.ids("val")[-1] == "val_00039"
    assert (len(SOURCE.ids("train")), len(SOURCE.ids("val"))) == (300, 40)


def test_split_may_be_a_file_of_ids(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("val_00007\ntrain_00001\n\n")
    assert SOURCE.ids(str(path)) == ("val_00007", "train_00001")


@pytest.mark.parametrize(
    ("text", "message"),
    [("train_00300\n", "train_00300"), ("", "lists no image"), ("val_00001\nval_00001\n", "more than once")],
)
def test_unusable_lists_are_refused(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        SOURCE.ids(str(path))


def test_unknown_split_names_the_choices():
    with pytest.raises(DataError, match=r"no split 'trian'; give 'train', 'val'"):
        SOURCE.ids("trian")


@pytest.mark.parametrize("image_id", ["train_00300", "val_00040", "test_00000", "train_1", "train_-0001", ""])
def test_unknown_image_is_refused(image_id):
    for read in (SOURCE.size, SOURCE.image, SOURCE.mask, SOURCE.labels):
        with pytest.raises(DataError, match=f"no image '{image_id}'"):
            read(image_id)


@pytest.mark.parametrize(
    ("key", "value"), [("num_train", -1), ("num_val", -1), ("image_size", 31), ("seed", -1)]
)
def test_unusable_options_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"dataset.{key} is {value}"):
        Shapes(**{key: value})


def test_another_process_draws_the_same_pictures():
    ids = ["train_00000", "train_00123", "val_00005"]
    code = (
        "import hashlib, pickle, sys\n"
        "source = pickle.load(sys.stdin.buffer)\n"
        f"for i in {ids}:\n"
        "    arrays = source.image(i), source.mask(i), source.labels(i)\n"
        "    print(hashlib.sha256(b''.join(a.tobytes() for a in arrays)).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(SOURCE), capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [_digest(SOURCE, image_id) for image_id in ids]


def test_pictures_do_not_depend_on_the_order_or_on_the_number_of_images():
    smaller = Shapes(num_train=20, num_val=2, image_size=64, seed=3)
    backwards = [_digest(smaller, image_id) for image_id in reversed(smaller.ids("train"))]
    assert backwards[::-1] == [_digest(SOURCE, image_id) for image_id in smaller.ids("train")]


def test_seeds_splits_and_indices_differ():
    other = Shapes(num_train=300, num_val=40, image_size=64, seed=4)
    digests = [
        _digest(source, i) for source in (SOURCE, other) for i in ("train_00000", "train_00001", "val_00000")
    ]
    assert len(set(digests)) == 6


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    index=st.integers(0, 99_999),
    image_size=st.sampled_from([32, 48, 64, 96, 160]),
)
def test_every_image_keeps_its_contract(seed, index, image_size):
    source = Shapes(num_train=100_000, num_val=0, image_size=image_size, seed=seed)
    image_id = f"train_{index:05d}"
    height, width = source.size(image_id)
    image, mask, labels, parts = (
        f(image_id) for f in (source.image, source.mask, source.labels, source.parts)
    )
    assert 0.8 * image_size - 1 < min(height, width) <= max(height, width) < 1.2 * image_size + 1
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
    assert (labels.shape, labels.dtype) == ((6,), np.float32)
    assert 1 <= labels.sum() <= 3
    np.testing.assert_array_equal(np.flatnonzero(labels) + 1, np.unique(mask[mask > 0]))
    np.testing.assert_array_equal(parts > 0, mask > 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_class_shows_head_and_body(seed):
    source = Shapes(num_train=1, num_val=0, image_size=64, seed=seed)
    mask, parts = source.mask("train_00000"), source.parts("train_00000")
    for value in np.unique(mask[mask > 0]):
        head, body = (np.sum((mask == value) & (parts == part)) for part in (2, 1))
        assert head >= 20
        assert body >= 60
        assert body > head


def test_classes_are_balanced_and_areas_are_those_of_objects():
    ids = SOURCE.ids("train")
    labels = np.stack([SOURCE.labels(image_id) for image_id in ids])
    masks = [SOURCE.mask(image_id) for image_id in ids]
    frequency = labels.mean(axis=0)
    assert 0.18 < frequency.min() <= frequency.max() < 0.4
    assert np.mean(labels.sum(axis=1) > 1) > 0.3
    covered = [np.mean(mask > 0) for mask in masks]
    assert 0.15 < np.mean(covered) < 0.35
    assert min(covered) > 0.02


def test_sizes_vary():
    sizes = [SOURCE.size(image_id) for image_id in SOURCE.ids("train")]
    assert len(set(sizes)) > 100
    assert min(min(size) for size in sizes) < 55 < 73 < max(max(size) for size in sizes)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_figures_lie_in_their_frame_and_have_a_small_head(figure):
    line = np.linspace(-1.3, 1.3, 521, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    head = figure.head(x, y)
    body = figure.body(x, y) & ~head
    outside = (np.abs(x) > 1) | (np.abs(y) > 1)
    assert not np.any((head | body) & outside)
    assert 0.18 < head.sum() / (head | body).sum() < 0.3
    share = np.mean(figure.pattern(x, y)[head] > 0)
    assert 0.25 < share < 0.75
    assert np.abs(figure.texture(x, y)).max() <= 1 + 1e-6


def test_heads_are_more_saturated_than_bodies_and_background():
    saturation = {0: [], 1: [], 2: []}
    for image_id in SOURCE.ids("val"):
        image, parts = SOURCE.image(image_id).astype(float), SOURCE.parts(image_id)
        spread = image.max(axis=-1) - image.min(axis=-1)
        for part, values in saturation.items():
            values.append(spread[parts == part].mean())
    background, body, head = (np.mean(saturation[part]) for part in (0, 1, 2))
    assert head > 1.5 * body  # although a third of the heads are turned away
    assert head > 2 * background
