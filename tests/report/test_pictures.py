import numpy as np
import pytest

from wsss_jax.report import cam_overlay, heat_scale, label_overlay


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


def test_overlays_refuse_other_sizes_types_and_opacities():
    image, plane = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="sizes differ"):
        cam_overlay(image, plane.T)
    with pytest.raises(ValueError, match="an image is"):
        cam_overlay(image.astype(np.float32), plane)
    with pytest.raises(ValueError, match="sizes differ"):
        label_overlay(image, np.zeros((3, 2), np.uint8))
    for draw, second in ((cam_overlay, plane), (label_overlay, plane.astype(np.uint8))):
        with pytest.raises(ValueError, match=r"opacity is 1\.5"):
            draw(image, second, opacity=1.5)
