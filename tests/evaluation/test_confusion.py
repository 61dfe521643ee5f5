from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.errors import DataError
from wsss_jax.evaluation import (
    ConfusionMatrix,
    class_iou,
    frequency_weighted_iou,
    labels_from_scores,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation.npz"


def slow_confusion(prediction, mask, num_classes):
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for p, g in zip(prediction.ravel().tolist(), mask.ravel().tolist(), strict=True):
        if g != 255:
            counts[g, p] += 1
    return counts


def test_hand_computed_counts_and_iou():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    prediction = np.array([[0, 2], [2, 1]], np.uint8)
    confusion = ConfusionMatrix(num_classes=3)
    confusion.add(prediction, mask)
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion.counts.tolist() == expected
    np.testing.assert_allclose(class_iou(confusion.counts), [1, 0, 0.5, 0], atol=1e-9)
    assert mean_iou(confusion.counts, "zero") == pytest.approx(1.5 / 4)
    assert mean_iou(confusion.counts, "ignore") == pytest.approx(1.5 / 3)  # class 3 has no pixel anywhere


def test_what_a_class_counts_that_is_only_predicted_or_nowhere():
    """Truth: 4 pixels of background, 2 of class 1. Class 2 is only predicted, class 3 is nowhere."""
    confusion = ConfusionMatrix(num_classes=3)
    confusion.add(np.array([[0, 0, 0, 2, 1, 1]], np.uint8), np.array([[0, 0, 0, 0, 1, 1]], np.uint8))
    assert mean_iou(confusion.counts, "zero") == pytest.approx((3 / 4 + 1 + 0 + 0) / 4)
    assert mean_iou(confusion.counts, "ignore") == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert mean_iou(confusion.counts, "truth") == pytest.approx((3 / 4 + 1) / 2)


def test_rules_differ_from_matrix_to_matrix_of_a_sweep():
    """Of each threshold only the classes count that it predicts; the truth is the same for all."""
    counts = np.array([[[4, 0], [0, 0]], [[2, 2], [0, 0]]])
    np.testing.assert_allclose(mean_iou(counts, "zero"), [1 / 2, 1 / 4])
    np.testing.assert_allclose(mean_iou(counts, "ignore"), [1, 1 / 4])
    np.testing.assert_allclose(mean_iou(counts, "truth"), [1, 1 / 2])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_counts_equal_a_loop_over_pixels_and_merge_is_the_whole(seed, num_classes):
    rng = np.random.default_rng(seed)
    parts = [ConfusionMatrix(num_classes=num_classes) for _ in range(2)]
    expected = np.zeros((num_classes + 1,) * 2, np.int64)
    for part in parts:
        prediction = rng.integers(0, num_classes + 1, (3, 4)).astype(np.uint8)
        mask = rng.choice([*range(num_classes + 1), 255], (3, 4)).astype(np.uint8)
        part.add(prediction, mask)
        expected += slow_confusion(prediction, mask, num_classes)
    merged = parts[0] + parts[1]
    np.testing.assert_array_equal(merged.counts, expected)
    assert merged.images == 2


def test_predicted_void():
    prediction, mask = np.array([[255, 255, 1]], np.uint8), np.array([[1, 255, 0]], np.uint8)
    with pytest.raises(DataError, match=r"prediction of image 'dog' has the label 255"):
        ConfusionMatrix(num_classes=1).add(prediction, mask, image_id="dog")
    lenient = ConfusionMatrix(num_classes=1, void_prediction="background")
    lenient.add(prediction, mask)
    assert lenient.counts.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("prediction", "mask", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"mask of image 'a1' has shape \(3, 2\)"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.int32), "mask of image 'a1' is int32"),
        (np.zeros((2, 3), np.int64), np.zeros((2, 3), np.uint8), "prediction of image 'a1' is int64"),
        (np.zeros((2, 3), np.uint8), np.full((2, 3), 3, np.uint8), "mask of image 'a1' has the value 3"),
        (
            np.full((2, 3), 7, np.uint8),
            np.zeros((2, 3), np.uint8),
            "prediction of image 'a1' has the label 7",
        ),
    ],
)
def test_unusable_input_names_the_image_and_counts_nothing(prediction, mask, message):
    confusion = ConfusionMatrix(num_classes=2)
    with pytest.raises(DataError, match=message):
        confusion.add(prediction, mask, image_id="a1")
    assert confusion.images == 0
    assert not confusion.counts.any()


def test_merging_different_classes_and_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="cannot merge"):
        ConfusionMatrix(num_classes=2).merge(ConfusionMatrix(num_classes=3))
    with pytest.raises(ValueError, match="one of 'zero', 'ignore', 'truth'"):
        mean_iou(np.eye(2), "skip")
    with pytest.raises(ValueError, match="void_prediction"):
        ConfusionMatrix(num_classes=2, void_prediction="drop")
    with pytest.raises(ValueError, match="1 to 254"):
        ConfusionMatrix(num_classes=255)


def test_nothing_counted_has_no_mean_under_ignore():
    with pytest.raises(DataError, match="no pixel to score"):
        mean_iou(np.zeros((3, 3), np.int64), "ignore")


def argmax_of_all_planes(scores, keys, num_classes):
    planes = np.zeros((num_classes + 1, *scores.shape[1:]), np.float32)
    for key, plane in zip(keys, scores, strict=True):
        planes[key + 1] = plane
    return np.argmax(planes, axis=0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_labels_from_scores_equal_the_argmax_over_all_planes(data):
    num_classes = data.draw(st.integers(1, 4))
    keys = data.draw(st.permutations(range(-1, num_classes)))[: data.draw(st.integers(0, num_classes + 1))]
    seed = data.draw(st.integers(0, 2**32 - 1))
    values = np.array([-0.5, -0.25, 0, 0.25], np.float32)  # few values: ties everywhere
    scores = np.random.default_rng(seed).choice(values, (len(keys), 3, 4))
    labels = labels_from_scores(ClassMaps(np.array(keys, np.int32), scores), num_classes)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, argmax_of_all_planes(scores, keys, num_classes))


def test_golden_scores_with_a_background_plane():
    golden = np.load(GOLDEN)
    confusion, loop = ConfusionMatrix(num_classes=20), np.zeros((21, 21), np.int64)
    for i in range(4):
        keys, scores, mask = np.append(-1, golden[f"classes_{i}"]), golden[f"crf_{i}"], golden[f"gt_{i}"]
        confusion.add(labels_from_scores(ClassMaps(keys, scores), 20), mask)
        loop += slow_confusion(argmax_of_all_planes(scores, keys, 20), mask, 20)
    np.testing.assert_array_equal(confusion.counts, loop)
    np.testing.assert_allclose(100 * class_iou(confusion.counts), golden["crf_iou"][0], atol=1e-4)
    np.testing.assert_allclose(100 * mean_iou(confusion.counts), golden["crf_miou"][0], atol=1e-4)


@pytest.mark.parametrize(
    ("scores", "keys", "message"),
    [
        (np.zeros((2, 2, 2), np.float32), [-1], r"has keys \[1\] for maps"),
        (np.zeros((2, 2, 2), np.float32), [-2, 0], "expected -1 for background and different classes"),
        (np.zeros((2, 2, 2), np.float32), [0, 3], "has the class 3, but classes are 0 to 2"),
        (np.zeros((2, 2, 2), np.float32), [1, 1], "different classes"),
        (np.zeros((1, 2, 2), np.uint8), [1], "uint8 values"),
        (np.full((1, 2, 2), np.nan, np.float32), [1], "no finite scores"),
    ],
)
def test_unusable_score_files_name_the_image(scores, keys, message):
    with pytest.raises(DataError, match=rf"score file of image 'a1'.*{message}"):
        labels_from_scores(ClassMaps(np.array(keys, np.int32), scores), 3, image_id="a1")


def test_scores_of_deeplab_v2():
    """deeplab-pytorch's own, of two images of different sizes; a class that is only predicted counts in no
    mean."""
    z = np.load(GOLDEN.with_name("deeplabv2.npz"))
    confusion = ConfusionMatrix(num_classes=20)
    for i in range(2):
        truth = np.where(z[f"metric_gt{i}"] > 20, 255, z[f"metric_gt{i}"]).astype(np.uint8)
        confusion.add(z[f"metric_pred{i}"].astype(np.uint8), truth)
    counts = confusion.counts
    assert pixel_accuracy(counts) == pytest.approx(float(z["metric_pixel_acc"]), rel=1e-6)
    assert mean_accuracy(counts) == pytest.approx(float(z["metric_mean_acc"]), rel=1e-6)
    assert frequency_weighted_iou(counts) == pytest.approx(float(z["metric_fw_iou"]), rel=1e-6)
    assert mean_iou(counts, "truth") == pytest.approx(float(z["metric_mean_iou"]), rel=1e-6)
    known = z["metric_class_iou"] >= 0
    np.testing.assert_allclose(class_iou(counts)[known], z["metric_class_iou"][known], rtol=1e-6)
