"""Which pixel of a crop erases which pixel of its resized versions."""

import numpy as np
import pytest

from wsss_jax.systems.infer_cam.iterations import nearest_chain


@pytest.mark.parametrize(
    ("length", "scaled", "wanted"),
    [
        (4, [4], [[0, 1, 2, 3]]),
        (4, [2], [[0, 2]]),
        (3, [5], [[0, 0, 1, 1, 2]]),  # floor(i * 3 / 5)
        (5, [3], [[0, 1, 3]]),  # floor(i * 5 / 3)
        (1, [1, 3], [[0], [0, 0, 0]]),
        (4, [4, 2, 6, 8], [[0, 1, 2, 3], [0, 2], [0, 0, 0, 2, 2, 2], [0, 0, 0, 0, 2, 2, 2, 2]]),
    ],
)
def test_each_version_is_made_from_the_one_before(length, scaled, wanted):
    for places, by_hand in zip(nearest_chain(length, scaled), wanted, strict=True):
        np.testing.assert_array_equal(places, by_hand)
        assert places.dtype == np.int32


def test_places_are_those_of_pytorch_where_float32_rounds_down():
    """`torch.nn.functional.interpolate` from 2 to 82 takes row 0 for number 41; exactly it would be row 1."""
    (places,) = nearest_chain(2, [82])
    np.testing.assert_array_equal(places, [0] * 42 + [1] * 40)
