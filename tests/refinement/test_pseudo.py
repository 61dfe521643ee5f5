"""From scores to masks on the host: seeds, enlarging, shares, label maps."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.evaluation import ThresholdSweep
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.refinement.pseudo import relative_foreground, upsample, walk_seeds


def maps(planes, background=False):
    planes = np.asarray(planes, np.float32)
    return ClassMaps(np.arange(len(planes), dtype=np.int32) - background, planes)


def test_background_is_what_the_best_class_leaves_to_a_power():
    cam = np.zeros((2, 8, 8), np.float32)
    cam[0], cam[1] = 0.5, 0.25
    np.testing.assert_allclose(walk_seeds(maps(cam), 4, 8).planes[:, 0, 0], [0.5**4, 0.5, 0.25], rtol=1e-6)


def test_cells_beyond_the_picture_count_nothing_in_any_plane():
    class_ids, seeds = walk_seeds(maps(np.zeros((1, 4, 12))), 16, 8)
    assert class_ids.tolist() == [-1, 0]
    # 4 of 8 rows, and 4 of 8 columns of the second position.
    np.testing.assert_allclose(seeds[0], [[0.5, 0.25]], rtol=1e-6)
    np.testing.assert_array_equal(seeds[1], 0)


def test_a_picture_without_classes_is_background():
    seeds = walk_seeds(maps(np.zeros((0, 8, 16))), 16, 8)
    np.testing.assert_array_equal(seeds.planes, np.ones((1, 1, 2)))
    assert not relative_foreground(maps(np.ones((1, 3, 4)), background=True), 1, (3, 4)).labels(0.5).any()


@pytest.mark.parametrize(("h", "w", "stride"), [(1, 1, 4), (3, 5, 8), (4, 1, 4)])
def test_enlarging_is_pytorchs(h, w, stride):
    planes = np.random.default_rng(0).random((2, h, w)).astype(np.float32)
    size = (h * stride - 3, w * stride - 1)
    full = resize_bilinear(jnp.asarray(planes).transpose(1, 2, 0)[None], (h * stride, w * stride))[0]
    wanted = np.asarray(full).transpose(2, 0, 1)[:, : size[0], : size[1]]
    np.testing.assert_allclose(upsample(planes, stride, size), wanted, atol=1e-6)


def test_half_a_share_is_where_a_class_beats_the_background():
    planes = np.array([[[0.2, 0.4, 0.0]], [[0.3, 0.3, 0.0]], [[0.1, 0.35, 0.0]]], np.float32)
    shares = relative_foreground(ClassMaps(np.array([-1, 4, 7], np.int32), planes), 1, (1, 3))
    np.testing.assert_allclose(shares.planes[:, 0, 0], [0.6, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(shares.planes[:, 0, 2], 0)
    np.testing.assert_array_equal(shares.labels(0.5), [[5, 0, 0]])
    np.testing.assert_array_equal(shares.labels(0.4), [[5, 8, 0]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_the_masks_are_what_the_sweep_counts(K, H, W, seed):
    rng = np.random.default_rng(seed)
    shares = (rng.integers(0, 11, (K, H, W)) / 10).astype(np.float32)
    shares = ClassMaps(np.sort(rng.permutation(5)[:K]).astype(np.int32), shares)
    mask = rng.integers(0, 6, (H, W)).astype(np.uint8)
    sweep = ThresholdSweep(num_classes=5, thresholds=(0.3, 0.5))
    sweep.add(shares, mask)
    for i, level in enumerate(sweep.thresholds):
        counts = np.zeros((6, 6), int)
        np.add.at(counts, (mask, shares.labels(level)), 1)
        np.testing.assert_array_equal(sweep.confusion()[i], counts)
