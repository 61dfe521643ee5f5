import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.evaluation import (
    ImageScore,
    ThresholdSweep,
    class_iou,
    image_label_score,
    image_score,
    mean_iou,
    threshold_range,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation.npz"


def slow_confusion(images, thresholds, num_classes):
    """The references' evaluation, literally: all planes, one argmax per threshold and image."""
    counts = np.zeros((len(thresholds), num_classes + 1, num_classes + 1), np.int64)
    for i, threshold in enumerate(thresholds):
        for cam, keys, mask in images:
            planes = np.zeros((num_classes + 1, *mask.shape), np.float32)
            for key, plane in zip(keys, cam, strict=True):
                planes[key + 1] = plane
            planes[0] = threshold
            prediction = np.argmax(planes, axis=0)
            valid = mask < 255
            np.add.at(counts[i], (mask[valid], prediction[valid]), 1)
    return counts


def swept(images, thresholds, num_classes):
    sweep = ThresholdSweep(num_classes=num_classes, thresholds=thresholds)
    for cam, keys, mask in images:
        sweep.add(ClassMaps(keys, cam), mask)
    return sweep


def golden_images():
    golden = np.load(GOLDEN)
    return golden, [(golden[f"cams_{i}"], golden[f"classes_{i}"], golden[f"gt_{i}"]) for i in range(4)]


@pytest.mark.parametrize("case", ["cse", "cpn"])
def test_golden_values(case):
    golden, images = golden_images()
    thresholds = golden[f"{case}_thresholds"]
    confusion = swept(images, thresholds, 20).confusion()
    np.testing.assert_array_equal(confusion, slow_confusion(images, thresholds, 20))
    np.testing.assert_allclose(100 * class_iou(confusion), golden[f"{case}_iou"], atol=1e-4)
    np.testing.assert_allclose(100 * mean_iou(confusion), golden[f"{case}_miou"], atol=1e-4)


@pytest.mark.parametrize(("case", "start", "stop"), [("cse", 0.10, 0.39), ("cpn", 0.20, 0.59)])
def test_threshold_range_gives_the_references_float32_thresholds(case, start, stop):
    golden, _ = golden_images()
    np.testing.assert_array_equal(
        np.float32(threshold_range(start, stop, 0.01)), np.float32(golden[f"{case}_thresholds"])
    )


def test_threshold_range_refuses_nonsense():
    for arguments in [(0.1, 0.0, 0.01), (0.0, 1.0, 0.0), (0.0, 1.0, -0.1)]:
        with pytest.raises(ValueError, match="no thresholds"):
            threshold_range(*arguments)
    assert threshold_range(0.3, 0.3, 0.1) == (0.3,)


@st.composite
def image_sets(draw):
    num_classes = draw(st.integers(1, 4))
    thresholds = sorted(draw(st.sets(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 1.0]), min_size=1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.float32([-0.5, 0, 0.1, 0.25, 0.3, 0.4, 0.5, 1, 1.5])  # thresholds themselves: exact ties
    images = []
    for _ in range(draw(st.integers(1, 3))):
        keys = rng.permutation(num_classes)[: rng.integers(0, num_classes + 1)].astype(np.int32)
        cam = rng.choice(values, (len(keys), 3, 5))
        mask = rng.choice([*range(num_classes + 1), 255], (3, 5)).astype(np.uint8)
        images.append((cam, keys, mask))
    return images, thresholds, num_classes


@settings(max_examples=200, deadline=None)
@given(image_sets())
def test_one_pass_equals_the_loop_over_thresholds(case):
    images, thresholds, num_classes = case
    sweep = swept(images, thresholds, num_classes)
    np.testing.assert_array_equal(sweep.confusion(), slow_confusion(images, thresholds, num_classes))
    assert sweep.images == len(images)


@settings(max_examples=30, deadline=None)
@given(image_sets())
def test_merged_parts_equal_the_whole(case):
    images, thresholds, num_classes = case
    parts = [swept([image], thresholds, num_classes) for image in images]
    merged = sum(parts[1:], parts[0])
    whole = swept(images, thresholds, num_classes)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert merged.images == whole.images


def test_hand_computed_two_by_two():
    cam = np.float32([[[0.2, 0.6], [0.5, 0.0]], [[0.2, 0.1], [0.9, 0.0]]])
    mask = np.array([[1, 1], [2, 0]], np.uint8)
    sweep = swept([(cam, np.array([0, 1], np.int32), mask)], [0.0, 0.2, 0.5], 2)
    # At 0: labels [[1, 1], [2, 0]] (class 0 wins the tie at 0.2). At 0.2: the tie with background makes pixel
    # (0, 0) background. At 0.5 the same two pixels are still above.
    np.testing.assert_array_equal(
        sweep.confusion(),
        [
            [[1, 0, 0], [0, 2, 0], [0, 0, 1]],
            [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
            [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
        ],
    )


def test_order_of_keys_does_not_decide_ties():
    cam = np.full((2, 1, 1), 0.5, np.float32)
    mask = np.array([[1]], np.uint8)
    for keys in ([0, 2], [2, 0]):
        confusion = swept([(cam, np.array(keys, np.int32), mask)], [0.1], 3).confusion()
        assert confusion[0, 1].tolist() == [0, 1, 0, 0]


def test_threshold_is_compared_as_float32():
    threshold = 0.15  # the double lies below the float32 nearest to it
    cam = np.full((1, 1, 1), np.float32(threshold))
    assert float(np.float32(threshold)) > threshold
    confusion = swept([(cam, np.array([0], np.int32), np.array([[1]], np.uint8))], [threshold], 1).confusion()
    assert confusion[0].tolist() == [[0, 0], [1, 0]]  # a tie: background


def test_image_without_classes_is_background():
    cam, keys = np.zeros((0, 2, 2), np.float32), np.zeros(0, np.int32)
    confusion = swept([(cam, keys, np.array([[0, 1], [255, 2]], np.uint8))], [0.0, 0.5], 2).confusion()
    assert confusion.tolist() == [[[1, 0, 0], [1, 0, 0], [1, 0, 0]]] * 2


@pytest.mark.parametrize(
    ("cam", "keys", "mask", "message"),
    [
        (np.zeros((1, 2, 3)), [0], np.zeros((3, 2), np.uint8), r"mask of image 'a1' has shape \(3, 2\)"),
        (np.zeros((1, 2, 3)), [0], np.full((2, 3), 5, np.uint8), "mask of image 'a1' has the value 5"),
        (np.zeros((1, 2, 3)), [0], np.zeros((2, 3), np.int64), "mask of image 'a1' is int64"),
        (
            np.zeros((1, 2, 3)),
            [4],
            np.zeros((2, 3), np.uint8),
            "image 'a1' has the class 4, but classes are 0 to 3",
        ),
        (np.zeros((1, 2, 3)), [-1], np.zeros((2, 3), np.uint8), r"image 'a1' has the keys \[-1\]"),
        (np.zeros((2, 2, 3)), [1, 1], np.zeros((2, 3), np.uint8), "different classes"),
        (np.zeros((2, 2, 3)), [1], np.zeros((2, 3), np.uint8), "CAM file of image 'a1' has keys"),
        (np.zeros((2, 3)), [0, 1], np.zeros((2, 3), np.uint8), "expected K and K, H, W"),
        (np.full((1, 2, 3), np.nan), [1], np.zeros((2, 3), np.uint8), "no finite scores"),
        (np.zeros((1, 2, 3), np.uint8), [1], np.zeros((2, 3), np.uint8), "uint8 values"),
    ],
)
def test_unusable_input_names_the_image_and_counts_nothing(cam, keys, mask, message):
    sweep = ThresholdSweep(num_classes=4, thresholds=[0.1])
    with pytest.raises(DataError, match=message) as raised:
        sweep.add(ClassMaps(np.array(keys, np.int32), cam), mask, image_id="a1")
    assert "a1" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sweep.images == 0
    assert not sweep.counts.any()


@pytest.mark.parametrize(
    "thresholds", [[], [-0.1], [0.2, 0.1], [0.1, 0.1], [0.1, 0.1 + 1e-12], [np.nan], [np.inf]]
)
def test_unusable_thresholds(thresholds):
    with pytest.raises(ValueError, match="thresholds must"):
        ThresholdSweep(num_classes=2, thresholds=thresholds)


def test_different_sweeps_do_not_merge():
    sweep = ThresholdSweep(num_classes=2, thresholds=[0.1])
    for other in (
        ThresholdSweep(num_classes=3, thresholds=[0.1]),
        ThresholdSweep(num_classes=2, thresholds=[0.2]),
    ):
        with pytest.raises(ValueError, match="cannot merge"):
            sweep.merge(other)


def test_index_compares_as_float32_and_names_the_range():
    sweep = ThresholdSweep(num_classes=2, thresholds=threshold_range(0.1, 0.39, 0.01))
    assert sweep.index(0.1 + 0.29) == 29
    assert sweep.index(np.float32(0.15)) == 5
    with pytest.raises(
        ConfigError, match=r"threshold 0.405 is not among the 30 of the sweep \(0.1 to 0.39\)"
    ):
        sweep.index(0.405)


def test_sweep_survives_pickling_for_worker_processes():
    golden, images = golden_images()
    sweep = swept(images, golden["cse_thresholds"], 20)
    copy = pickle.loads(pickle.dumps(sweep))
    np.testing.assert_array_equal((copy + sweep).confusion(), 2 * sweep.confusion())


def test_the_score_of_an_image_averages_its_own_classes():
    cam = np.float32([[[0.9, 0.9, 0.1, 0.1]]])
    mask = np.array([[1, 0, 0, 255]], np.uint8)
    # Background 1 of 2, class 0 1 of 2, and the two classes that do not occur are left out.
    score = image_score(ClassMaps(np.array([0], np.int32), cam), mask, num_classes=3, threshold=0.5)
    assert (score.miou, score.foreground) == pytest.approx((0.5, 0.5))
    void = np.full((1, 4), 255, np.uint8)
    assert image_score(ClassMaps(np.array([0], np.int32), cam), void, num_classes=3, threshold=0.5) is None


def test_foreground_leaves_the_background_out():
    """Of 8 pixels: background 5 of 6, class 0 1 of 2, and class 2, only predicted, 0 of 1."""
    truth = np.array([[0, 0, 0, 0, 0, 0, 1, 1]], np.uint8)
    labels = np.array([[0, 0, 0, 0, 0, 3, 1, 255]], np.uint8)  # 255 counts as background
    score = image_label_score(labels, truth, num_classes=3)
    assert score.miou == pytest.approx((5 / 7 + 1 / 2 + 0) / 3)
    assert score.foreground == pytest.approx((1 / 2 + 0) / 2)
    nothing = np.zeros((1, 8), np.uint8)
    assert image_label_score(nothing, nothing, num_classes=3) == ImageScore(pytest.approx(1.0), None)
    assert image_label_score(nothing, np.full((1, 8), 255, np.uint8), num_classes=3) is None
