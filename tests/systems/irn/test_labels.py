"""IRN's training samples: image and labels go together, and labels are those of every fourth pixel from 2."""

import numpy as np
import pytest
from PIL import Image

from wsss_jax.data.images import palette_png
from wsss_jax.errors import RunError
from wsss_jax.systems.irn.labels import InterPixelSample
from wsss_jax.systems.irn.train import check_labels


class Source:
    """Images whose red channel is their label map's, so that one can be told by the other."""

    classes = ("a", "b", "c")

    def __init__(self, labels):
        self.labels = labels

    def size(self, image_id):
        return self.labels[image_id].shape

    def image(self, image_id):
        return np.repeat(self.labels[image_id][..., None], 3, 2)


def sample(tmp_path, labels, **options):
    for image_id, each in labels.items():
        (tmp_path / f"{image_id}.png").write_bytes(palette_png(each))
    options = {"crop": 16, "scales": (1.0, 1.0), "flip": False, **options}
    return InterPixelSample(source=Source(labels), labels=tmp_path, **options)


def test_labels_are_those_of_the_pixels(tmp_path):
    rng = np.random.default_rng(0)
    make = sample(tmp_path, {"x": rng.integers(0, 4, (20, 24)).astype(np.uint8)}, flip=True)
    for seed in range(5):
        found = make("x", np.random.default_rng(seed))
        assert found["box"].tolist() == [0, 16, 0, 16] and found["labels"].shape == (4, 4)
        np.testing.assert_array_equal(found["labels"], found["image"][2::4, 2::4, 0])


def test_beyond_the_image_nothing_is_known(tmp_path):
    found = sample(tmp_path, {"x": np.full((6, 16), 3, np.uint8)})("x", np.random.default_rng(0))
    top, bottom, *_ = found["box"]
    inside = (np.arange(2, 16, 4) >= top) & (np.arange(2, 16, 4) < bottom)
    assert 0 < inside.sum() < 4
    np.testing.assert_array_equal(found["labels"], np.where(inside, 3, 255)[:, None] * np.ones((1, 4)))


def test_image_and_labels_are_rescaled_by_one_factor(tmp_path):
    make = sample(
        tmp_path, {"x": np.repeat([[0, 2]], 8, 1).repeat(12, 0).astype(np.uint8)}, scales=(0.5, 1.5)
    )
    sizes = set()
    for seed in range(8):
        found = make("x", np.random.default_rng(seed))
        top, bottom, left, right = found["box"]
        sizes.add((bottom - top, right - left))
        known = found["labels"] != 255
        pixels = found["image"][2::4, 2::4, 0].astype(int)
        assert set(np.unique(found["labels"])) <= {0, 2, 255}
        assert (np.abs(pixels - found["labels"])[known] <= 1).all()
    assert len(sizes) > 4


@pytest.mark.parametrize(("value", "kind"), [(0, "class"), (2, "background"), (255, "background")])
def test_labels_that_teach_nothing_are_told(tmp_path, value, kind):
    make = sample(tmp_path, {"x": np.full((16, 16), value, np.uint8)})
    with pytest.raises(RunError, match=f"labels of all 1 images show no {kind}"):
        check_labels(make, ["x"])
    check_labels(sample(tmp_path, {"x": np.eye(16, dtype=np.uint8)}), ["x"])


def test_a_label_map_of_another_size_is_refused(tmp_path):
    make = sample(tmp_path, {"x": np.zeros((16, 16), np.uint8)})
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(Exception, match="8"):
        make("x", np.random.default_rng(0))
