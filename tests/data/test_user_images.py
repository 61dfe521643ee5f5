"""Images that a user brings: files, PIL images, arrays."""

import io
import re

import numpy as np
import pytest
from PIL import ExifTags, Image

from wsss_jax.data.user_images import check_file, upright_rgb
from wsss_jax.errors import DataError

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 9

# How stored pixels are to be turned, by EXIF number (Exif 2.3, tag 274: which side row 0 and column 0 are).
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: PIXELS[::-1].transpose(1, 0, 2),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: PIXELS[:, ::-1].transpose(1, 0, 2),
}


def write(path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)


@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_is_applied(tmp_path, orientation):
    path = tmp_path / "a.png"
    write(path, orientation)
    for picture in (path, str(path), Image.open(path)):
        np.testing.assert_array_equal(upright_rgb(picture), TURNED[orientation])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_changes_nothing(tmp_path, orientation):
    write(tmp_path / "a.png", orientation)
    np.testing.assert_array_equal(upright_rgb(tmp_path / "a.png"), PIXELS)


def test_damaged_exif_does_not_hinder(tmp_path):
    for cut in range(0, 40, 3):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        block = b"Exif\0\0" + exif.tobytes()[6:]
        damaged = block[: 6 + cut] + b"\xff" * max(0, len(block) - 6 - cut)
        content = io.BytesIO()
        Image.fromarray(PIXELS).save(content, format="PNG", exif=damaged)
        (tmp_path / "a.png").write_bytes(content.getvalue())
        assert sorted(upright_rgb(tmp_path / "a.png").shape) == [2, 3, 3]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_eight_bit_modes_become_rgb(mode):
    found = upright_rgb(Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode))
    np.testing.assert_array_equal(found, np.full((3, 4, 3), 255, np.uint8))


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_images_of_unknown_range_are_refused(mode):
    with pytest.raises(DataError, match=f"mode {mode} has no known range; convert it to RGB"):
        upright_rgb(Image.new(mode, (4, 3)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), np.uint8),
        np.zeros((2, 3, 4), np.uint8),
        np.zeros((1, 2, 3, 3), np.uint8),
        np.zeros((2, 3, 3), np.float32),
        np.zeros((0, 3, 3), np.uint8),
    ],
)
def test_arrays_of_another_form_are_refused(array):
    message = f"an image is uint8[H, W, 3], not {array.dtype}{list(array.shape)}"
    with pytest.raises(DataError, match=re.escape(message)):
        upright_rgb(array)


def test_header_is_checked_without_decoding(tmp_path):
    write(tmp_path / "a.png", 1)
    check_file(tmp_path / "a.png")
    with pytest.raises(DataError, match="is a folder; give its images"):
        check_file(tmp_path)
    with pytest.raises(DataError, match=r"no such file: .*b\.png"):
        check_file(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"c\.png cannot be decoded"):
        check_file(tmp_path / "c.png")
