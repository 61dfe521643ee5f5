import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from tests.helpers.voc import write_mask
from wsss_jax.data import images
from wsss_jax.data.user_images import upright_rgb
from wsss_jax.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def refusal(function, *args):
    """The message of the DataError that a call raises."""
    with pytest.raises(DataError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def save(path, picture, **options):
    picture.save(path, **options)
    return path


def test_rgb_png_is_exact(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(RGB))
    np.testing.assert_array_equal(images.decode_image(path, "a"), RGB)
    assert images.header_size(path, "a") == (6, 9)


def test_other_pixel_modes_become_rgb(tmp_path):
    gray = RGB[..., 0]
    three = np.repeat(gray[..., None], 3, axis=2)
    alpha = np.dstack([RGB, np.full((6, 9), 7, np.uint8)])
    cmyk = Image.fromarray(np.dstack([255 - RGB, np.zeros((6, 9), np.uint8)]), mode="CMYK")
    few = np.zeros((6, 9, 3), np.uint8)
    few[2:, 4:] = (10, 200, 30)
    palette = Image.fromarray(few).quantize(2, dither=Image.Dither.NONE)
    cases = [
        ("l.png", Image.fromarray(gray), three),
        ("la.png", Image.fromarray(np.dstack([gray, alpha[..., 3]]), mode="LA"), three),
        ("rgba.png", Image.fromarray(alpha), RGB),
        ("p.png", palette, few),
        ("1.png", Image.fromarray(gray > 99), np.where(three > 99, 255, 0)),
        ("16.png", Image.fromarray(gray.astype(np.uint16) * 256 + 255), three),
        ("cmyk.tif", cmyk, RGB),
        ("rgb.bmp", Image.fromarray(RGB), RGB),
    ]
    for name, picture, expected in cases:
        out = images.decode_image(save(tmp_path / name, picture), name)
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, expected, err_msg=name)


def test_cmyk_jpeg_has_the_right_colours(tmp_path):
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[..., 1:3] = 255  # magenta and yellow ink: red
    path = save(tmp_path / "a.jpg", Image.fromarray(cmyk, mode="CMYK"), quality=100)
    assert np.abs(images.decode_image(path, "a")[8, 8].astype(int) - (255, 0, 0)).max() < 6


def test_palette_with_transparency_is_converted_without_a_warning(tmp_path):
    picture = Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9))
    picture.putpalette(RGB.tobytes())
    path = save(tmp_path / "a.png", picture, transparency=bytes(range(54)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(images.decode_image(path, "a"), RGB)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees for display
    path = save(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(images.decode_image(path, "a"), RGB)
    assert images.header_size(path, "a") == (6, 9)


def test_size_needs_only_the_header(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(np.zeros((200, 300, 3), np.uint8)))
    path.write_bytes(path.read_bytes()[:700])
    assert images.header_size(path, "a") == (200, 300)
    assert "cannot be decoded" in refusal(images.decode_image, path, "a")


def test_truncated_jpeg_names_file_id_and_remedy(tmp_path):
    path = save(tmp_path / "2007_000001.jpg", Image.fromarray(RGB))
    path.write_bytes(path.read_bytes()[:-40])
    message = refusal(images.decode_image, path, "2007_000001")
    assert "'2007_000001'" in message and str(path) in message and "truncated" in message
    assert "restore the file" in message


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"<html>not found</html>", bytes(1000)])
def test_files_that_are_no_images(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for function in (images.decode_image, images.header_size):
        assert "'a'" in refusal(function, path, "a")


def test_missing_file_folder_and_float_image(tmp_path):
    assert "no such file" in refusal(images.decode_image, tmp_path / "a.jpg", "a")
    assert "no such file" in refusal(images.header_size, tmp_path / "a.jpg", "a")
    assert "cannot be decoded" in refusal(images.decode_image, tmp_path, "a")
    path = save(tmp_path / "f.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    assert "32-bit float" in refusal(images.decode_image, path, "f")


def test_enormous_picture_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(np.zeros((50, 50, 3), np.uint8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "too many pixels" in refusal(images.decode_image, path, "a")


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TGA"])
def test_other_formats_are_not_read_whatever_they_are_called(tmp_path, monkeypatch, kind):
    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: called.append(arguments))
    Image.fromarray(RGB).save(tmp_path / "a.png", kind)
    for read in (images.decode_image, images.header_size, lambda p, i: images.read_mask(p, i, 3)):
        assert "cannot be decoded" in refusal(read, tmp_path / "a.png", "a")
    with pytest.raises(DataError, match="cannot be decoded"):
        upright_rgb(tmp_path / "a.png")
    assert not called


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_give_pixels_or_a_data_error(tmp_path_factory, suffix, data):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = images.decode_image(path, "a")
        except DataError as e:
            assert "'a'" in str(e) and "\n" not in str(e)
        else:
            assert (out.dtype, out.ndim, out.shape[2]) == (np.uint8, 3, 3)


MASK = np.array([[0, 1, 2], [255, 20, 3]], np.uint8)


def test_masks_are_read_as_indices(tmp_path):
    write_mask(tmp_path / "p.png", MASK)
    Image.fromarray(MASK).save(tmp_path / "l.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    for name in ("p.png", "l.png"):
        out = images.read_mask(tmp_path / name, "a", 20, (2, 3))
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, MASK)
    bilevel = save(tmp_path / "1.png", Image.fromarray(MASK == 1))
    np.testing.assert_array_equal(images.read_mask(bilevel, "a", 1), MASK == 1)


def test_mask_of_another_size(tmp_path):
    write_mask(tmp_path / "a.png", MASK)
    message = refusal(images.read_mask, tmp_path / "a.png", "a", 20, (3, 4))
    assert "is 3x2 pixels, but its image is 4x3" in message and "EXIF" not in message
    assert "EXIF" in refusal(images.read_mask, tmp_path / "a.png", "a", 20, (3, 2))


def test_mask_with_an_index_beyond_the_classes(tmp_path):
    write_mask(tmp_path / "a.png", MASK)
    message = refusal(images.read_mask, tmp_path / "a.png", "a", 19)
    assert "index 20" in message and "19 classes" in message


def test_colour_coded_mask_is_refused_and_can_be_converted(tmp_path):
    colours = images.voc_palette()[MASK]
    path = save(tmp_path / "a.png", Image.fromarray(colours))
    message = refusal(images.read_mask, path, "a", 20)
    assert "colour-coded" in message and "indices_from_colours" in message
    np.testing.assert_array_equal(images.indices_from_colours(colours), MASK)
    colours[1, 2] = (1, 2, 3)
    assert "row 1, column 2" in refusal(images.indices_from_colours, colours)


def test_mask_modes_without_indices(tmp_path):
    gray = save(tmp_path / "rgb.png", Image.fromarray(np.repeat(MASK[..., None], 3, axis=2)))
    assert "three equal colour channels" in refusal(images.read_mask, gray, "a", 20)
    deep = save(tmp_path / "16.png", Image.fromarray(MASK.astype(np.uint16)))
    assert "pixel mode I;16" in refusal(images.read_mask, deep, "a", 20)
    assert "mask of 'a': no such file" in refusal(images.read_mask, tmp_path / "no.png", "a", 20)


def test_voc_palette():
    palette = images.voc_palette()
    assert palette[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    assert len(np.unique(palette, axis=0)) == 256
    with pytest.raises(ValueError, match="read-only"):
        palette[0] = 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_palette_png_returns_the_labels(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    picture = Image.open(io.BytesIO(images.palette_png(labels)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), images.voc_palette()[labels])


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int32), np.zeros((2, 2, 3), np.uint8)])
def test_other_arrays_are_no_label_maps(labels):
    with pytest.raises(ValueError, match=r"uint8\[H, W\]"):
        images.palette_png(labels)
