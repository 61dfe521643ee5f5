"""Where pictures are split, against InferCam's own boxes and Python's own slices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.golden import GOLDEN
from wsss_jax.data.parts import Box, PartViews, SplitRule, cut, mass_centre, split_boxes
from wsss_jax.data.transforms import rescale

CLIPPED = SplitRule(wrap=False)


def spot(size, *places):
    """A map with a single positive pixel for each (row, column)."""
    cams = np.zeros((len(places), *size), np.float32)
    for cam, place in zip(cams, places, strict=True):
        cam[place] = 1
    return cams


@pytest.mark.parametrize("case", range(8))
def test_boxes_are_those_of_the_authors(case):
    golden = np.load(GOLDEN / "infercam.npz")
    boxes = split_boxes(golden[f"box_cams_{case}"], SplitRule())
    np.testing.assert_array_equal(np.array(boxes), golden["boxes"][case])


def test_centres_and_boxes_of_the_golden_picture():
    golden, cams = np.load(GOLDEN / "infercam.npz"), np.load(GOLDEN / "infercam_baseline.npz")["baseline_cam"]
    np.testing.assert_array_equal([mass_centre(cam) for cam in cams], golden["mass_centres"])
    np.testing.assert_array_equal(np.array(split_boxes(cams, SplitRule())), golden["split_boxes"])


def test_mass_centre_by_hand():
    cam = np.zeros((4, 8), np.float32)
    cam[1, 2], cam[3, 5] = 1, 3
    assert mass_centre(cam) == (2, 4)  # rows (1 + 9) / 4, columns (2 + 15) / 4, cut off
    assert mass_centre(np.zeros((5, 9))) == (2, 4)


def test_one_class_by_hand():
    top, bottom, left, right = 0, 40, 0, 60
    boxes = split_boxes(spot((40, 60), (20, 25)), SplitRule())
    assert boxes == (
        Box(top, 30, left, 35),
        Box(top, 30, 15, right),
        Box(10, bottom, left, 35),
        Box(10, bottom, 15, right),
    )


def test_two_classes_reach_beyond_the_farther_centre():
    assert split_boxes(spot((100, 100), (30, 60), (50, 40)), SplitRule())[3] == Box(10, 100, 20, 100)
    assert split_boxes(spot((100, 100), (30, 60), (50, 40)), SplitRule())[0] == Box(0, 70, 0, 80)


def test_a_start_below_zero_counts_from_the_end_unless_cut_off():
    cams = spot((40, 60), (7, 30))
    assert split_boxes(cams, SplitRule())[2] == Box(37, 40, 0, 40)  # 7 - 10: the last three rows
    assert split_boxes(cams, CLIPPED)[2] == Box(0, 40, 0, 40)


def test_a_picture_smaller_than_the_margin_is_its_own_parts():
    assert set(split_boxes(spot((5, 6), (2, 3)), SplitRule())) == {Box(0, 5, 0, 6)}


def test_three_classes_or_none_are_not_split():
    whole = Box(0, 20, 0, 30)
    assert split_boxes(spot((20, 30), (1, 1), (2, 2), (3, 3)), SplitRule()) == (whole,) * 4
    assert split_boxes(np.zeros((0, 20, 30), np.float32), SplitRule()) == (whole,) * 4


@st.composite
def maps(draw):
    size = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    places = st.tuples(st.integers(0, size[0] - 1), st.integers(0, size[1] - 1))
    return spot(size, *draw(st.lists(places, min_size=1, max_size=2)))


@given(maps())
def test_parts_are_what_pythons_slices_cut(cams):
    H, W = cams.shape[1:]
    pixels = np.arange(H * W).reshape(H, W)
    centres, margin = np.array([mass_centre(cam) for cam in cams]), (10, 20)[len(cams) - 1]
    (y0, x0), (y1, x1) = centres.min(0) - margin, centres.max(0) + margin
    wanted = pixels[:y1, :x1], pixels[:y1, x0:], pixels[y0:, :x1], pixels[y0:, x0:]
    for box, part in zip(split_boxes(cams, SplitRule()), wanted, strict=True):
        np.testing.assert_array_equal(cut(pixels, box), part)
        assert min(box.size) >= 1


@given(maps())
def test_without_wrapping_parts_cover_the_picture(cams):
    covered = np.zeros(cams.shape[1:], bool)
    for box in split_boxes(cams, CLIPPED):
        cut(covered, box)[:] = True
    assert covered.all()


def test_views_are_the_part_at_every_scale_and_as_it_is():
    class OnePicture:
        def image(self, image_id):
            return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

    box = Box(3, 16, 5, 6)  # one column, which is one column at half size too
    ((half, double, part),) = PartViews(OnePicture(), (0.5, 2.0))(("a", [box]))
    np.testing.assert_array_equal(part, OnePicture().image("a")[3:16, 5:6])
    assert half.shape == (6, 1, 3) and double.shape == (26, 2, 3)
    np.testing.assert_array_equal(double, rescale(part, 2.0))
