import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsss_jax.report import (
    cam_overlay,
    heat_scale,
    label_overlay,
    palette_png,
    voc_palette,
)


def test_voc_palette_values():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette[label].tolist()) == colour
    assert len(np.unique(palette, axis=0)) == 256
    with pytest.raises(ValueError, match="read-only"):
        palette[0] = 1


def test_heat_scale_brightens_steadily():
    luma = heat_scale().astype(float) @ [0.299, 0.587, 0.114]
    assert np.all(np.diff(luma) > -1)
    assert luma[0] < 15
    assert luma[-1] > 230


def test_cam_overlay_is_grey_without_evidence_and_hot_with_it():
    image = np.full((1, 3, 3), (200, 100, 50), np.uint8)
    out = cam_overlay(image, np.float32([[0, 1, 2]]), opacity=1.0)
    assert out.dtype == np.uint8
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert out[0, 0].tolist() == [grey] * 3
    assert out[0, 1].tolist() == heat_scale()[255].tolist()
    assert out[0, 2].tolist() == out[0, 1].tolist()  # clipped


def test_label_overlay_covers_only_the_foreground():
    image = np.full((1, 2, 3), 100, np.uint8)
    out = label_overlay(image, np.array([[0, 1]], np.uint8), opacity=0.5)
    assert out.tolist() == [[[100, 100, 100], [114, 50, 50]]]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_palette_png_returns_the_labels(height, width, seed):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    picture = Image.open(io.BytesIO(palette_png(labels)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[labels])


@pytest.mark.parametrize("labels", [np.zeros((2, 2), np.int32), np.zeros((2, 2, 3), np.uint8)])
def test_other_arrays_are_no_label_maps(labels):
    with pytest.raises(ValueError, match=r"uint8\[H, W\]"):
        palette_png(labels)


def test_overlays_refuse_other_sizes_types_and_opacities():
    image, plane = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="sizes differ"):
        cam_overlay(image, plane.T)
    with pytest.raises(ValueError, match="a picture is"):
        cam_overlay(image.astype(np.float32), plane)
    with pytest.raises(ValueError, match="sizes differ"):
        label_overlay(image, np.zeros((3, 2), np.uint8))
    for draw, second in ((cam_overlay, plane), (label_overlay, plane.astype(np.uint8))):
        with pytest.raises(ValueError, match=r"opacity is 1\.5"):
            draw(image, second, opacity=1.5)
