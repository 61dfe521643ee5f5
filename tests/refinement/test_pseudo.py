"""From scores to masks on the host: seeds, enlarging, shares, label maps, PNG files."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsss_jax.data.images import voc_palette
from wsss_jax.evaluation import ThresholdSweep
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.refinement.pseudo import foreground_shares, label_map, palette_png, upsample, walk_seeds


def test_background_is_what_the_best_class_leaves_to_a_power():
    cam = np.zeros((2, 8, 8), np.float32)
    cam[0], cam[1] = 0.5, 0.25
    np.testing.assert_allclose(walk_seeds(cam, 4, 8)[:, 0, 0], [0.5**4, 0.5, 0.25], rtol=1e-6)


def test_cells_beyond_the_picture_count_nothing_in_any_plane():
    seeds = walk_seeds(np.zeros((1, 4, 12), np.float32), 16, 8)
    # 4 of 8 rows, and 4 of 8 columns of the second cell.
    np.testing.assert_allclose(seeds[0], [[0.5, 0.25]], rtol=1e-6)
    np.testing.assert_array_equal(seeds[1], 0)


def test_a_picture_without_classes_is_background():
    np.testing.assert_array_equal(walk_seeds(np.zeros((0, 8, 16), np.float32), 16, 8), np.ones((1, 1, 2)))
    assert label_map(foreground_shares(np.ones((1, 3, 4), np.float32)), np.zeros(0, np.int32), 0.5).max() == 0


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.sampled_from([4, 8]), st.integers(0, 2**31))
def test_enlarging_is_pytorchs(h, w, stride, seed):
    planes = np.random.default_rng(seed).random((2, h, w)).astype(np.float32)
    size = (h * stride - 3, w * stride - 1)
    full = resize_bilinear(jnp.asarray(planes).transpose(1, 2, 0)[None], (h * stride, w * stride))[0]
    wanted = np.asarray(full).transpose(2, 0, 1)[:, : size[0], : size[1]]
    np.testing.assert_allclose(upsample(planes, stride, size), wanted, atol=1e-6)


def test_half_a_share_is_where_a_class_beats_the_background():
    planes = np.array([[[0.2, 0.4, 0.0]], [[0.3, 0.3, 0.0]], [[0.1, 0.35, 0.0]]], np.float32)
    shares = foreground_shares(planes)
    np.testing.assert_allclose(shares[:, 0, 0], [0.6, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(shares[:, 0, 2], 0)
    keys = np.array([4, 7], np.int32)
    np.testing.assert_array_equal(label_map(shares, keys, 0.5), [[5, 0, 0]])
    np.testing.assert_array_equal(label_map(shares, keys, 0.4), [[5, 8, 0]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_the_masks_are_what_the_sweep_counts(K, H, W, seed):
    rng = np.random.default_rng(seed)
    shares = (rng.integers(0, 11, (K, H, W)) / 10).astype(np.float32)
    keys = np.sort(rng.permutation(5)[:K]).astype(np.int32)
    mask = rng.integers(0, 6, (H, W)).astype(np.uint8)
    sweep = ThresholdSweep(num_classes=5, thresholds=(0.3, 0.5))
    sweep.add(shares, keys, mask)
    for i, level in enumerate(sweep.thresholds):
        counts = np.zeros((6, 6), int)
        np.add.at(counts, (mask, label_map(shares, keys, level)), 1)
        np.testing.assert_array_equal(sweep.confusion()[i], counts)


@pytest.mark.parametrize("shape", [(1, 7), (5, 4)])
def test_a_png_holds_the_labels_under_vocs_colours(shape):
    labels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    labels.flat[-1] = 255
    picture = Image.open(io.BytesIO(palette_png(labels)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[labels])
