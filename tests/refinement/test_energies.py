"""Unary energies by hand."""

import numpy as np
import pytest

from wsss_jax.refinement.energies import (
    binarised_energies,
    cam_energies,
    confident_labels,
    label_energy,
    mean_subtracted,
    score_energy,
    start_labels,
    with_background,
)


def test_background_is_what_the_best_class_leaves():
    cam = np.array([[[0.5, 0.0]], [[0.25, 0.0]]], np.float32)
    np.testing.assert_allclose(with_background(cam, 2), [[[0.25, 1.0]], *cam], rtol=1e-6)


def test_maps_out_of_range_give_finite_energies():
    """A map may exceed 1 by rounding, and CPN's have pixels below 0."""
    cam = np.array([[[1.0001, -0.22]]], np.float32)
    energies = cam_energies(cam, (0.5, 4))
    assert energies.shape == (2, 2, 1, 2) and np.isfinite(energies).all()
    np.testing.assert_allclose(energies[:, 0, 0, 1], 0)  # (1 + 0.22)^alpha is cut to 1
    np.testing.assert_allclose(energies[:, 0, 0, 0], -np.log(1e-5), rtol=1e-6)


def test_sc_cams_crf_sees_maps_of_0_and_255():
    """(1 - 255)^alpha and 255 are both cut to 1; with an odd alpha the power is negative and cut to 1e-5."""
    cam = np.array([[[0.1, 0.16, 0.9]], [[0.15, 0.15, 0.8]]], np.float32)
    no = -np.log(np.float32(1e-5))
    classes = [[[no, 0, 0]], [[no, no, 0]]]
    wanted = [[[[0, 0, 0]], *classes], [[[0, 0, 0]], *classes], [[[0, no, no]], *classes]]
    np.testing.assert_allclose(binarised_energies(cam, (4.0, 32.0, 3.0)), wanted, rtol=1e-6)


def test_scores_are_cut_before_the_logarithm():
    np.testing.assert_allclose(
        score_energy(np.array([0.0, 1e-7, 0.5, 1.0, 3.0])), [-np.log(1e-5)] * 2 + [np.log(2), 0, 0], rtol=1e-6
    )


def test_labels_get_their_probability_and_the_others_share_the_rest():
    energies = label_energy(np.array([[0, 2]]), 3)
    expected = -np.log([[0.7, 0.15], [0.15, 0.15], [0.15, 0.7]])
    np.testing.assert_allclose(energies[:, 0], expected, rtol=1e-6)


def test_background_wins_ties_of_start_labels():
    cam = np.array([[[0.3, 0.31, 0.4]], [[0.1, 0.2, 0.4]]], np.float32)
    np.testing.assert_array_equal(start_labels(cam, np.float32(0.3)), [[0, 1, 1]])


def test_confident_labels_by_hand():
    high, low = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 0]])
    np.testing.assert_array_equal(confident_labels(high, low, np.array([7, 14])), [[0, 255, 8, 15]])


def test_a_picture_without_classes_has_an_empty_label():
    nothing = np.zeros((2, 3), np.int64)
    assert not confident_labels(nothing, nothing, np.zeros(0, np.int32)).any()


@pytest.mark.parametrize(
    ("rgb", "bgr"),
    [((255, 255, 255), (150, 138, 132)), ((122, 116, 104), (0, 0, 0)), ((0, 0, 0), (152, 140, 134))],
)
def test_deeplabs_picture_wraps_around(rgb, bgr):
    """255 - 104.008 is 150.99; 0 - 104.008 is -104.008, cut to -104, which a byte holds as 152."""
    assert tuple(mean_subtracted(np.array([[rgb]], np.uint8))[0, 0]) == bgr
