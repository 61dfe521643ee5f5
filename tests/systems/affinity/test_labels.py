"""AffinityNet's samples: label maps as psa makes them, and what joint crops and flips keep together."""

import dataclasses
import pickle

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.data import make_source
from wsss_jax.data.transforms import ColorJitter
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.systems.affinity.labels import AffinitySample, position_labels


def write(path, keys, scores):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, keys=np.asarray(keys, np.int32), scores=np.asarray(scores, np.float32))


@pytest.fixture
def sample(tmp_path):
    """Left half of each image surely class 3, right half surely background."""
    source = make_source("shapes", num_train=2, num_val=1, image_size=64, seed=0)
    for image_id in source.ids("train"):
        H, W = source.size(image_id)
        scores = np.zeros((2, H, W), np.float32)
        scores[1, :, : W // 2] = scores[0, :, W // 2 :] = 1
        for name in ("low", "high"):
            write(tmp_path / name / f"{image_id}.npz", [-1, 3], scores)
    return AffinitySample(source=source, low=tmp_path / "low", high=tmp_path / "high", crop=48)


def planes(low, high):
    """Two positions side by side, each float32[8, 16, 2] of [background, class]."""
    return [np.repeat(np.asarray(values, np.float32)[None], 8, 0).repeat(8, 1) for values in (low, high)]


def test_labels_are_psas():
    golden = np.load(GOLDEN / "resnet38_aff.npz")
    low, high = (np.moveaxis(golden[f"crf_{name}"], 0, -1) for name in ("la", "ha"))
    np.testing.assert_array_equal(position_labels(low, high), golden["crf_label"])


@pytest.mark.parametrize(
    ("low", "high", "label"),
    [
        ((0.2, 0.8), (0.1, 0.9), 1),  # even the generous background loses
        ((0.8, 0.2), (0.1, 0.9), 255),  # the two disagree
        ((0.8, 0.2), (0.7, 0.3), 0),  # even the sparing background wins
        ((0.2, 0.8), (0.7, 0.3), 0),  # which no CRF would say; background comes second and wins
        ((0, 0), (0, 0), 255),  # outside the picture
    ],
)
def test_labels_of_a_cell(low, high, label):
    a, b = planes([low, (1, 0)], [high, (1, 0)])
    np.testing.assert_array_equal(position_labels(a, b), [[label, 0]])


def test_picture_and_labels_are_cut_and_mirrored_together(sample):
    rng, image_id = np.random.default_rng(0), "train_00000"
    original = sample.source.image(image_id)
    mirrored = 0
    for _ in range(12):
        made = sample(image_id, rng)
        assert made["image"].shape == (48, 48, 3) and made["labels"].shape == (6, 6)
        np.testing.assert_array_equal(made["box"], [0, 48, 0, 48])  # the border is black, as psa's is
        row = made["labels"][3]
        there = [view for view in (original, original[:, ::-1]) if _contains(view, made["image"])]
        assert len(there) == 1
        flipped = there[0] is not original
        mirrored += flipped
        classes = np.flatnonzero(row == 1)
        if len(classes) and (row == 0).any():
            assert (classes.max() < np.flatnonzero(row == 0).min()) != flipped
    assert 0 < mirrored < 12


def _contains(view, crop):
    """Whether the crop, all inside the image, is one of its windows."""
    windows = np.lib.stride_tricks.sliding_window_view(view, (48, 48, 3))[:, :, 0]
    return bool((windows == crop).all((2, 3, 4)).any())


def test_a_picture_smaller_than_the_crop_is_unknown_around(sample):
    made = dataclasses.replace(sample, crop=128, flip=False)("train_00001", np.random.default_rng(0))
    outside = made["image"].reshape(16, 8, 16, 8, 3).max((1, 3, 4)) == 0
    assert outside.any() and (made["labels"][outside] == 255).all()


def test_jitter_changes_colours_only_and_workers_can_have_it(sample):
    plain = pickle.loads(pickle.dumps(sample))("train_00000", np.random.default_rng(4))
    coloured = dataclasses.replace(sample, jitter=ColorJitter())
    again = coloured("train_00000", np.random.default_rng(4))
    assert again["image"].shape == plain["image"].shape and not np.array_equal(again["image"], plain["image"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"'train_00000'.*low/train_00000.npz is missing.*stage crf"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"train_00000.npz is damaged.*delete it"),
        (lambda path: write(path, [3], np.ones((1, 9, 9))), r"holds maps of 9x9 pixels.*crf again"),
        (
            lambda path: write(path, [4, 3], np.load(path)["scores"]),
            r"'train_00000'.*keys \[3, 4\].*background's key -1 first",
        ),
        (lambda path: write(path, [-1, 5], np.load(path)["scores"]), r"\[-1, 5\] and \[-1, 3\]"),
    ],
)
def test_scores_that_cannot_be_used_are_named(sample, change, message):
    change(sample.low / "train_00000.npz")
    with pytest.raises(DataError, match=message) as error:
        sample("train_00000", np.random.default_rng(0))
    assert "\n" not in str(error.value)


def test_crops_are_whole_cells(sample):
    with pytest.raises(ConfigError, match=r"affinity.crop=50.*multiple of 8"):
        dataclasses.replace(sample, crop=50)
