"""Complementary patches: what is hidden, how often, and that the seed decides it."""

import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.data.loader import BatchLoader, ClassificationSample
from wsss_jax.data.shapes import Shapes
from wsss_jax.data.transforms import Recipe
from wsss_jax.errors import ConfigError
from wsss_jax.systems.cpn.patches import PatchSample, draw_patches, superpixels
from wsss_jax.systems.cpn.settings import PatchRule

WHOLE = np.array([0, 60, 0, 60], np.int32)
FEW = PatchRule(segments=30)


def two_colours(side=60):
    """Left half red, right half blue."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:, : side // 2, 0] = image[:, side // 2 :, 2] = 200
    return image


def test_superpixels_keep_to_the_edges():
    ids = superpixels(two_colours(), WHOLE, 30, 10.0)
    assert ids.shape == (60, 60) and set(np.unique(ids)) == set(range(ids.max() + 1))
    assert 15 <= ids.max() + 1 <= 60
    assert not set(np.unique(ids[:, :30])) & set(np.unique(ids[:, 30:]))


def borders(ids):
    """bool: which neighbouring pixels belong to different superpixels."""
    return np.concatenate([(ids[1:] != ids[:-1]).ravel(), (ids[:, 1:] != ids[:, :-1]).ravel()])


@pytest.mark.parametrize("crop", [0, 1])
def test_superpixels_are_those_of_the_version_that_the_authors_used(crop):
    """scikit-image 0.17.2 on crops of photographs, the first with an empty border."""
    with np.load(GOLDEN / "cpn_slic.npz") as golden:
        image, box, wanted = (golden[f"{name}_{crop}"] for name in ("crop", "box", "labels"))
    ids = superpixels(image, box, 300, 10.0)
    assert ids.max() + 1 == wanted.max()  # theirs count from 1
    assert np.mean(borders(ids) != borders(wanted)) < 0.002


class Draws:
    """A generator that draws what it is told, and remembers from how many ids and how many it was to."""

    def __init__(self, *values):
        self.values = values

    def integers(self, count, size):
        self.asked = count, size
        return np.array(self.values)


def test_one_id_that_can_be_drawn_does_not_exist():
    image = two_colours()
    ids = superpixels(image, WHOLE, 30, 10.0)
    count = ids.max() + 1
    draws = Draws(0, count)
    keep = draw_patches(image, WHOLE, draws, FEW)
    assert draws.asked == (count + 1, count // 2)
    np.testing.assert_array_equal(keep == 0, ids == 0)


def test_whole_superpixels_are_hidden_and_about_as_many_as_drawn():
    image = two_colours()
    ids = superpixels(image, WHOLE, 30, 10.0)
    rng, count = np.random.default_rng(0), ids.max() + 1
    kept = []
    for _ in range(20):
        keep = draw_patches(image, WHOLE, rng, FEW)
        assert keep.dtype == np.uint8 and keep.shape == (60, 60)
        of_each = [set(keep[ids == i]) for i in range(count)]
        assert all(values in ({0}, {1}) for values in of_each)
        hidden = sum(values == {0} for values in of_each)
        assert 1 <= hidden <= count // 2
        kept.append(1 - hidden / count)
    assert np.mean(kept) == pytest.approx(np.exp(-0.5), abs=0.05)  # drawn with replacement


def test_every_share_has_its_meaning():
    image, rng = two_colours(), np.random.default_rng(0)
    assert draw_patches(image, WHOLE, rng, PatchRule(share=0.0)).all()
    grid = PatchRule(patches="grid", cells=(20,), probability=1.0)
    assert not draw_patches(image, WHOLE, rng, grid).any()


def test_cells_are_hidden_as_a_whole_and_half_of_them():
    rng, patches = np.random.default_rng(0), PatchRule(patches="grid", cells=(16, 60))
    shares, sides = [], set()
    for _ in range(200):
        keep = draw_patches(two_colours(), WHOLE, rng, patches)
        cells = [keep[i : i + 16, j : j + 16] for i in range(0, 60, 16) for j in range(0, 60, 16)]
        assert all(cell.min() == cell.max() for cell in cells)
        sides.add(60 if keep.min() == keep.max() else 16)
        shares.append(keep.mean())
    assert sides == {16, 60}
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("side", [1, 2, 17])
@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("patches", ["slic", "grid"])
def test_tiny_and_uniform_crops(side, colour, patches):
    image, box = np.full((side, side, 3), colour, np.uint8), np.array([0, side, 0, side], np.int32)
    keep = draw_patches(image, box, np.random.default_rng(0), PatchRule(patches=patches))
    assert keep.shape == (side, side) and set(np.unique(keep)) <= {0, 1}


def test_an_empty_box_is_no_error():
    """A crop of which the image covers nothing is uniform after normalising."""
    keep = draw_patches(
        two_colours(), np.array([0, 0, 0, 60], np.int32), np.random.default_rng(0), PatchRule(segments=4)
    )
    assert 0 < keep.mean() < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patches": "slick"}, "patches of hidden patches is 'slick': must be one of 'slic', 'grid'"),
        ({"segments": 0}, "segments of hidden patches is 0: must be greater than 0"),
        ({"compactness": -1.0}, "compactness of hidden patches is -1.0: must be greater than 0"),
        ({"share": 1.5}, "share of hidden patches is 1.5: must be 0 to 1"),
        ({"probability": -0.1}, "probability of hidden patches is -0.1: must be 0 to 1"),
        ({"cells": ()}, r"cells of hidden patches is \(\): must be one or more sides in pixels"),
        ({"cells": (224, 0)}, r"cells of hidden patches is \(224, 0\): must be one or more sides in pixels"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        PatchRule(**change)


def batches(**options):
    source = Shapes(num_train=6, num_val=1, image_size=40)
    sample = PatchSample(ClassificationSample(source, Recipe(crop=32)), FEW)
    with BatchLoader(sample, source.ids("train"), batch_size=3, **options) as loader:
        return [next(loader) for _ in range(2)]


def test_the_seed_decides_whoever_works():
    wanted = batches(seed=4, threads=1)
    assert wanted[0]["keep"].shape == (3, 32, 32) and wanted[0]["keep"].dtype == np.uint8
    for found in (batches(seed=4, threads=3), batches(seed=4, workers=1)):
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.keys() == theirs.keys()
            np.testing.assert_array_equal(ours["keep"], theirs["keep"])
    assert any((a["keep"] != b["keep"]).any() for a, b in zip(batches(seed=5), wanted, strict=True))


def test_importing_loads_no_scikit_image():
    code = "import sys, wsss_jax.systems.cpn.patches; print('skimage' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
