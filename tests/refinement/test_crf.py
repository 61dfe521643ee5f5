"""Mean field against golden values, against pydensecrf, and in padded batches."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.errors import ConfigError
from wsss_jax.refinement import native
from wsss_jax.refinement.crf import DenseCrf, table_size
from wsss_jax.refinement.energies import (
    cam_energies,
    confident_labels,
    label_energy,
    score_energy,
    start_labels,
    threshold_energies,
)
from wsss_jax.refinement.settings import AFA, DEEPLAB, IRN, PSA, SEAM_DEEPLAB
from wsss_jax.sharding import data_mesh

ATOL = 1e-4


def fresh(crf, devices=1):
    return DenseCrf(crf, data_mesh(jax.devices()[:devices]))


make = functools.cache(fresh)  # its compiled programs serve several tests


def solve(program, images, energies, shape=None, seed=0):
    """Probabilities of images in padded arrays, with noise in the padding."""
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    H, W = shape or sizes.max(axis=0)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(images), H, W, 3), dtype=np.uint8)
    unary = rng.random((len(images), *energies[0].shape[:2], H, W), np.float32)
    for i, (h, w) in enumerate(sizes):
        pixels[i, :h, :w], unary[i, :, :, :h, :w] = images[i], energies[i]
    result = np.asarray(program.solve(program.index(pixels, sizes), unary))
    return [planes[:, :, :h, :w] for planes, (h, w) in zip(result, sizes, strict=True)]


def alone(crf, image, energies):
    return solve(make(crf), [image], [energies])[0]


def close(ours, theirs):
    """Probabilities alike, and the same labels wherever theirs are no near tie."""
    np.testing.assert_allclose(ours, theirs, atol=ATOL)
    first, second = np.sort(theirs, axis=0)[:-3:-1]
    clear = first - second > 2 * ATOL
    np.testing.assert_array_equal(ours.argmax(axis=0)[clear], theirs.argmax(axis=0)[clear])
    assert clear.mean() > 0.99


def picture(seed, size):
    """Blocks of colour with a photograph's grain."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    grain = rng.normal(0, 6, (*size, 3))
    return (blocks[: size[0], : size[1]] + grain).clip(0, 255).astype(np.uint8)


def scores(seed, labels, size):
    rng = np.random.default_rng(seed)
    return score_energy(rng.dirichlet(np.ones(labels), size).transpose(2, 0, 1))[None]


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "crf.npz")


ALPHAS = (4, 6, 10, 24, 32)


def test_all_alphas_of_psa_at_once(golden):
    ours = alone(PSA, golden["image"], cam_energies(golden["cams"], ALPHAS))
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-5)
    for planes, alpha in zip(ours, ALPHAS, strict=True):
        close(planes, golden[f"psa_alpha{alpha:02}"])


@pytest.mark.parametrize(("crf", "name"), [(PSA, "exact_psa_alpha04"), (DEEPLAB, "exact_deeplab")])
def test_lattices_stay_near_exact_gaussian_filters(golden, crf, name):
    """Kernels of another width or weight would not: the lattice's own error is 0.003 in the mean."""
    psa = crf is PSA
    energies = cam_energies(golden["cams"], ALPHAS) if psa else score_energy(golden["seg_probs"])[None]
    ours, exact = alone(crf, golden["image"], energies)[0], golden[name]
    assert np.abs(ours - exact).mean() < 0.004
    assert (ours.argmax(axis=0) != exact.argmax(axis=0)).mean() < 0.01


@pytest.mark.parametrize(
    ("crf", "name"),
    [(dataclasses.replace(PSA, iterations=1), "psa_alpha06_t1"), (PSA.at_scale(2), "psa_alpha06_scale2")],
)
def test_psas_other_arguments(golden, crf, name):
    close(alone(crf, golden["image"], cam_energies(golden["cams"], (6,)))[0], golden[name])


@pytest.mark.parametrize(("crf", "name"), [(DEEPLAB, "deeplab_result"), (AFA, "afa_result")])
def test_scores_of_segmentation_networks(golden, crf, name):
    close(alone(crf, golden["image"], score_energy(golden["seg_probs"])[None])[0], golden[name])


def test_labels_of_irn(golden):
    thresholds = [float(golden[f"irn_{name}_threshold"]) for name in ("fg", "bg")]
    energies = threshold_energies(golden["cams"], thresholds)
    ours = alone(IRN, golden["image"], energies)
    for i, name in enumerate(("fg", "bg")):
        np.testing.assert_array_equal(
            start_labels(golden["cams"], thresholds[i]), golden[f"irn_{name}_labels"]
        )
        first = energies[i].reshape(3, -1)[:, :4]
        np.testing.assert_allclose(first, golden[f"irn_{name}_unary"], rtol=1e-6)
        close(ours[i], golden[f"irn_{name}_probs"])
        np.testing.assert_array_equal(ours[i].argmax(axis=0), golden[f"irn_{name}_result"])


@pytest.mark.parametrize(("name", "thresholds"), [("irn", (0.3, 0.05)), ("wavecam", (0.35, 0.1))])
def test_training_labels_of_irn_and_wavecam(name, thresholds):
    golden = np.load(GOLDEN / "irn_crf.npz")
    ours = alone(IRN, golden["img"], threshold_energies(golden["cams"], thresholds))
    for planes, which in zip(ours, ("fg", "bg"), strict=True):
        close(planes, golden[f"{name}_{which}_marginals"])
    labels = confident_labels(*ours.argmax(axis=1), golden["keys"])
    np.testing.assert_array_equal(labels, golden[f"{name}_label"])


def test_deeplab_v2():
    golden = np.load(GOLDEN / "deeplabv2_crf.npz")
    ours = alone(DEEPLAB, golden["img"], score_energy(golden["prob"])[None])[0]
    close(ours, golden["marginals"])
    np.testing.assert_array_equal(ours.argmax(axis=0), golden["label"])


def test_deeplab_v1_of_seam():
    golden = np.load(GOLDEN / "seam_crf.npz")
    ours = alone(SEAM_DEEPLAB, golden["crf_img"], score_energy(golden["crf_prob"])[None])[0]
    close(ours, golden["crf_marginals"])
    np.testing.assert_array_equal(ours.argmax(axis=0), golden["crf_label"])


@pytest.mark.parametrize("devices", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_padding_and_batches_change_nothing_inside(devices):
    sizes = [(24, 30), (1, 24), (33, 17), (33, 31)]
    images = [picture(i, size) for i, size in enumerate(sizes)]
    energies = [scores(i, 3, size) for i, size in enumerate(sizes)]
    program = fresh(PSA, devices)
    together = solve(program, images, energies, shape=(36, 40))
    compiled = program.compiled
    for image, unary, ours in list(zip(images, energies, together, strict=True))[:2]:
        np.testing.assert_allclose(ours, alone(PSA, image, unary), atol=1e-5)
    again = solve(program, images[::-1], energies[::-1], shape=(36, 40), seed=1)
    for a, b in zip(together, again[::-1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert program.compiled == compiled


def test_labels_that_a_picture_does_not_have_change_nothing():
    image, unary = picture(0, (24, 30)), scores(0, 3, (24, 30))
    wide = np.concatenate([unary, np.full((1, 2, 24, 30), np.inf, np.float32)], axis=1)
    ours = alone(PSA, image, wide)
    np.testing.assert_allclose(ours[:, :3], alone(PSA, image, unary), atol=1e-6)
    assert not ours[:, 3:].any()


def test_accelerators_sort_alike():
    image, unary = picture(3, (24, 30)), scores(3, 3, (24, 30))
    program = fresh(PSA)
    assert program._sorts_on_host
    program._sorts_on_host = False
    np.testing.assert_allclose(solve(program, [image], [unary])[0], alone(PSA, image, unary), atol=1e-6)


def test_a_table_that_is_too_small_is_never_used():
    image, unary = picture(0, (24, 30)), scores(0, 3, (24, 30))
    program = make(PSA)
    indexed = program.index(image[None], np.array([[24, 30]], np.int32))
    needed = int(np.asarray(indexed.counts)[0])
    with pytest.raises(ValueError, match=rf"table of {needed - 1} points is too small.* has {needed}"):
        program.solve(indexed, unary[None], size=needed - 1)
    exact = program.solve(indexed, unary[None], size=needed)
    np.testing.assert_allclose(exact, program.solve(indexed, unary[None]), atol=1e-6)


def test_a_noisier_picture_gets_a_larger_table():
    calm, noise = np.full((24, 30, 3), 9, np.uint8), np.random.default_rng(0).integers(0, 256, (24, 30, 3))
    unary = scores(0, 2, (24, 30))
    program = fresh(IRN)
    solve(program, [calm], [unary])
    small = dict(program._sizes)
    ours = solve(program, [noise.astype(np.uint8)], [unary])[0]
    assert program._sizes[24, 30] > small[24, 30]
    np.testing.assert_allclose(ours, alone(IRN, noise.astype(np.uint8), unary), atol=1e-6)


def test_table_sizes_are_powers_of_two():
    assert table_size(5, (2, 2)) == 8 and table_size(8, (2, 2)) == 8 and table_size(9, (2, 2)) == 16
    assert table_size(1, (1, 1)) == 1 and table_size(3, (64, 64)) == 512
    assert table_size(3, (2000, 3000)) == 32768


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"bilateral_srgb": 0.1}, "bilateral_sxy"), ({"gaussian_sxy": 1e-3}, "gaussian_sxy")],
)
def test_kernels_too_narrow_for_the_lattices_numbers_are_refused(changes, name):
    crf = dataclasses.replace(PSA, **changes)
    with pytest.raises(ConfigError, match=rf"{name} is too small for images of 500x375 pixels"):
        make(crf).index(np.zeros((1, 375, 500, 3), np.uint8), np.array([[375, 500]], np.int32))


@pytest.mark.parametrize("changes", [{"iterations": 0}, {"gaussian_sxy": 0.0}, {"bilateral_weight": -1.0}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        dataclasses.replace(PSA, **changes)


@pytest.mark.skipif(not native.is_installed(), reason="needs the extra pydensecrf")
@pytest.mark.parametrize(
    ("crf", "labels", "size"), [(PSA, 21, (40, 53)), (IRN, 2, (33, 64)), (DEEPLAB, 4, (1, 90))]
)
def test_pydensecrf_gives_the_same(crf, labels, size):
    image, unary = picture(labels, size), scores(labels, labels, size)
    close(alone(crf, image, unary)[0], native.mean_field(image, unary[0], crf))


@pytest.mark.skipif(not native.is_installed(), reason="needs the extra pydensecrf")
def test_pydensecrf_has_the_golden_values_too(golden):
    energies = label_energy(golden["irn_fg_labels"], 3)
    close(native.mean_field(golden["image"], energies, IRN), golden["irn_fg_probs"])
