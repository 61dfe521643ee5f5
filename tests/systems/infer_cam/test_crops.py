"""Where images are split, against InferCam's own boxes and Python's own slices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.golden import GOLDEN
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import DataError
from wsss_jax.systems.infer_cam.crops import (
    Box,
    Crops,
    CropViews,
    boxes_of_files,
    crop_file,
    cut,
    mass_centre,
    split_boxes,
    through_jpeg,
)
from wsss_jax.systems.infer_cam.settings import SplitRule

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
    for box, crop in zip(split_boxes(cams, SplitRule()), wanted, strict=True):
        np.testing.assert_array_equal(cut(pixels, box), crop)
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
    ((half, double, crop),) = CropViews(Crops(OnePicture()), (0.5, 2.0))(("a", [box]))
    np.testing.assert_array_equal(crop, OnePicture().image("a")[3:16, 5:6])
    assert half.shape == (6, 1, 3) and double.shape == (26, 2, 3)
    np.testing.assert_array_equal(double, rescale(crop, 2.0))


class Ramp:
    """A source of one image with colours that JPEG cannot keep."""

    def image(self, image_id):
        rows, columns = np.mgrid[:20, :30]
        return np.stack([12 * rows, 8 * columns, (rows * columns) % 256], axis=2).astype(np.uint8)


BOXES = (Box(0, 12, 0, 18), Box(0, 12, 7, 30), Box(5, 20, 0, 18), Box(5, 20, 7, 30))


def test_parts_come_out_of_jpeg_files_as_opencv_writes_them():
    """Two crops from OpenCV 5.0's `imwrite` with its defaults, read by Pillow as the authors read them."""
    golden, picture = (
        np.load(GOLDEN / "infercam_jpeg.npz"),
        np.load(GOLDEN / "infercam_baseline.npz")["image"],
    )

    class OnePicture:
        def image(self, image_id):
            return picture

    boxes = [Box(*map(int, box)) for box in golden["boxes"]]
    crops = Crops(OnePicture(), jpeg_quality=95).read("golden", boxes)
    np.testing.assert_array_equal(crops[0], golden["part_1"])
    np.testing.assert_array_equal(crops[3], golden["part_4"])
    assert (crops[0] != cut(picture, boxes[0])).mean() > 0.1  # it does change them


def test_same_boxes_are_read_once_and_quality_0_leaves_parts_alone():
    exact, through = Crops(Ramp()), Crops(Ramp(), jpeg_quality=95)
    assert exact.exact and not through.exact and not Crops(Ramp(), folder="crops").exact
    (crop,) = exact.read("a", [BOXES[0]] * 4)
    np.testing.assert_array_equal(crop, Ramp().image("a")[:12, :18])
    (crop,) = through.read("a", [BOXES[0]] * 4)
    np.testing.assert_array_equal(crop, through_jpeg(Ramp().image("a")[:12, :18], 95))


def test_parts_of_a_folder_are_read_as_they_are(tmp_path):
    """Neither cut nor written anew: what is in the files need not be in the image."""
    rng = np.random.default_rng(0)
    for number, box in enumerate(BOXES, 1):
        noise = rng.integers(0, 256, (*box.size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(crop_file(tmp_path, "a", number), quality=80)
    assert boxes_of_files(str(tmp_path), "a", (20, 30)) == BOXES
    found = Crops(Ramp(), 95, str(tmp_path)).read("a", BOXES)
    for number, crop in enumerate(found, 1):
        with Image.open(tmp_path / f"a_{number}.jpg") as picture:
            np.testing.assert_array_equal(crop, np.asarray(picture))


def test_missing_and_oversized_parts_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a_1.jpg: there is no such file; infer_cam.split_path is a folder"):
        boxes_of_files(str(tmp_path), "a", (20, 30))
    for number in range(1, 5):
        Image.new("RGB", (30, 21 if number == 3 else 20)).save(crop_file(tmp_path, "a", number))
    with pytest.raises(DataError, match=r"a_3.jpg is \(21, 30\) pixels .* only \(20, 30\)"):
        boxes_of_files(str(tmp_path), "a", (20, 30))
