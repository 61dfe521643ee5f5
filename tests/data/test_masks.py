"""Anybody's masks: what is refused before the first step, and how it is told."""

import numpy as np
import pytest
from PIL import Image

from wsss_jax.data.images import palette_png, voc_palette
from wsss_jax.data.masks import Masks, census, describe
from wsss_jax.data.shapes import Shapes
from wsss_jax.errors import DataError

SOURCE = Shapes(num_train=12, num_val=2, image_size=40)
IDS = SOURCE.ids("train")


def written(folder, change=lambda mask: mask, of=IDS):
    """The true masks of the built-in images, changed, as files."""
    for image_id in of:
        path = folder / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(palette_png(change(SOURCE.mask(image_id)).astype(np.uint8)))
    return Masks(SOURCE, folder)


def refused(masks):
    with pytest.raises(DataError) as caught:
        census(masks, IDS, threads=2)
    return str(caught.value)


def test_shares_of_the_classes(tmp_path):
    def void_row(mask):
        return np.concatenate([np.full_like(mask[:1], 255), mask[1:]])

    found = census(written(tmp_path, void_row), IDS, threads=2)
    pixels = np.concatenate([void_row(SOURCE.mask(i)).ravel() for i in IDS])
    wanted = [(pixels == value).mean() for value in (*range(7), 255)]
    np.testing.assert_allclose(found.shares, wanted)
    assert wanted[-1] > 0.02
    text = describe(found.shares, SOURCE.classes)
    assert text.startswith(f"background {100 * wanted[0]:.2f} %, caterpillar ")
    assert text.endswith(f"void {100 * wanted[-1]:.2f} %")


def test_the_hash_is_that_of_the_pixels(tmp_path):
    same = census(written(tmp_path / "a"), IDS, threads=2).sha256
    assert census(written(tmp_path / "b"), IDS, threads=1).sha256 == same
    assert census(Masks(SOURCE, None), IDS, threads=2).sha256 == same  # the data set's own

    def one_pixel(mask):
        return np.concatenate([[[255, *mask[0, 1:]]], mask[1:]])

    assert census(written(tmp_path / "c", one_pixel), IDS, threads=2).sha256 != same


def test_missing_masks_are_counted(tmp_path):
    assert "10 of 12 images have no mask there (<id>.png), such as" in refused(written(tmp_path, of=IDS[:2]))


def test_masks_of_another_size_are_counted_by_name(tmp_path):
    message = refused(written(tmp_path, lambda mask: mask[:20]))
    assert message.startswith("12 of 12 masks cannot be used: mask of ")
    h, w = SOURCE.size(IDS[0])
    assert f"is {w}x20 pixels, but its image is {w}x{h}" in message and message.endswith("; and 9 more")


def test_colours_are_named_with_the_remedy(tmp_path):
    masks = written(tmp_path)
    for image_id in IDS:
        Image.fromarray(voc_palette()[SOURCE.mask(image_id)]).save(tmp_path / f"{image_id}.png")
    assert "is colour-coded" in refused(masks) and "indices_from_colours" in refused(masks)
    for image_id in IDS:
        path = tmp_path / f"{image_id}.png"
        Image.open(path).convert("L").save(path)
    assert "these are the grey levels of VOC's colours" in refused(masks)


def test_unknown_classes_are_refused(tmp_path):
    message = refused(written(tmp_path, lambda mask: np.where(mask == 0, 7, mask)))
    assert "has index 7, but there are 6 classes" in message and "grey levels" not in message


@pytest.mark.parametrize(("value", "word"), [(0, "background"), (255, "void")])
def test_masks_without_a_class_are_refused(tmp_path, value, word):
    message = refused(written(tmp_path, lambda mask: np.full_like(mask, value)))
    assert f"all 12 masks are {word} throughout" in message


@pytest.mark.parametrize(("shift", "found"), [(-1, "from 0, without"), (1, "from 2")])
def test_shifted_classes_are_told_by_the_labels(tmp_path, shift, found):
    def shifted(mask):
        moved = mask.astype(int) + shift
        return np.where((mask > 0) & (moved <= 6), moved, 0)

    message = refused(written(tmp_path, shifted))
    assert "the masks are off by one" in message and f"their classes count {found}" in message
    assert f"add {-shift} to the values of classes" in message


def test_pseudo_masks_may_err(tmp_path):
    """Classes that an image has not, in some masks: the labels tell of no shift then."""
    rng = np.random.default_rng(0)

    def wrong(mask):
        return np.where(rng.random(mask.shape) < 0.01, 1, mask)

    census(written(tmp_path, wrong), IDS, threads=2)
