"""Training crops against those of deeplab-pytorch."""

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import relative
from wsss_jax.data.source import VOID
from wsss_jax.systems.deeplab_v2.crops import LabelledCrop, labelled_crop
from wsss_jax.systems.deeplab_v2.network import DeepLabV2


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "opencv_resize.npz")


@pytest.mark.parametrize("i", range(5))
def test_crops_of_given_draws(golden, i):
    scale, top, left, draw = golden["deeplab_draws"][i]
    where = (int(top), int(left))
    sample = labelled_crop(golden["image"], golden["label"], float(scale), where, 48, draw < 0.5)
    pixels = DeepLabV2.preprocess.crops(sample["image"][None], sample["box"][None])[0]
    assert relative(pixels.transpose(2, 0, 1), golden[f"deeplab_image{i}"]) < 1e-4
    np.testing.assert_array_equal(sample["label_map"], golden[f"deeplab_label{i}"])


@pytest.mark.parametrize("i", range(4))
def test_scaled_images_are_opencvs(golden, i):
    """Half-pixel bilinear without antialiasing; OpenCV's weights are float32."""
    wanted = golden[f"linear{i}"]
    scale = max(wanted.shape[0] / 45, wanted.shape[1] / 61) + 1e-9
    found = labelled_crop(golden["image"], golden["label"], scale, (0, 0), 96, False)
    h, w = wanted.shape[:2]
    assert found["box"].tolist() == [0, h, 0, w]
    np.testing.assert_allclose(found["image"][:h, :w, ::-1], wanted, atol=2e-3)  # OpenCV has blue first


class OneImage:
    def image(self, image_id):
        return np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def test_samples_follow_their_generator():
    mask = np.random.default_rng(2).integers(0, 4, (20, 30)).astype(np.uint8)
    make = LabelledCrop(source=OneImage(), mask=lambda i: mask, crop=24, scales=(0.5, 1.5))
    samples = [make("a", np.random.default_rng(seed)) for seed in range(8)]
    again = make("a", np.random.default_rng(3))
    assert all(np.array_equal(again[key], samples[3][key]) for key in again)
    boxes = {tuple(sample["box"]) for sample in samples}
    assert boxes == {(0, 10, 0, 15), (0, 10, 9, 24), (0, 24, 0, 24)}  # both scales, mirrored and not
    for sample in samples:
        top, bottom, left, right = sample["box"]
        inside = np.zeros((24, 24), bool)
        inside[top:bottom, left:right] = True
        assert sample["image"].dtype == np.float32
        assert not sample["image"][~inside].any() and (sample["label_map"][~inside] == VOID).all()
        assert (sample["label_map"][inside] < 4).all()
