"""Lists of images: every one gets its own result, whatever it shares a batch with."""

import functools

import jax
import numpy as np
import pytest

from tests.refinement.test_crf import picture
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.refinement import native, stream
from wsss_jax.refinement.energies import cam_energies
from wsss_jax.refinement.jobs import CamJobs, Job, Refined, Refused
from wsss_jax.refinement.settings import PSA
from wsss_jax.refinement.stream import CrfStream, StreamSettings, choose_backend, label_slots
from wsss_jax.sharding import data_mesh

SIZES = {"a": (20, 31), "b": (33, 17), "c": (20, 31), "none": (9, 8), "bad": (9, 9), "big": (40, 44)}
KEYS = {"a": (3,), "b": (0, 5), "c": (2,), "none": (), "bad": (1,), "big": (7,)}


def load(image_id):
    if image_id == "bad":
        raise DataError("image 'bad': no such file")
    size, keys = SIZES[image_id], np.array(KEYS[image_id], np.int32)
    cam = np.random.default_rng(len(image_id)).random((max(len(keys), 1), *size), np.float32)
    energies = cam_energies(cam, (4, 24))[:, : len(keys) + 1]
    return Job(image_id, picture(1, size), keys, energies)


def refine(ids=tuple(SIZES), devices=1, **options):
    runner = CrfStream(StreamSettings(crf=PSA, **options), data_mesh(jax.devices()[:devices]))
    found = [r for several in runner.refine(load, ids, [(34, 32)]) for r in several]
    assert sorted(r.image_id for r in found) == sorted(ids)
    return {r.image_id: r for r in found}, runner


def planes(result):
    """float32[A, K + 1, H, W] of its alternatives."""
    return np.stack([maps.planes for maps in result.maps])


@pytest.fixture(scope="module")
def results():
    return refine(backend="jax", batch_size=2)


def test_every_picture_has_its_own_result(results):
    for image_id in ("a", "b", "c", "big"):
        result = results[0][image_id]
        assert planes(result).shape == (2, len(KEYS[image_id]) + 1, *SIZES[image_id])
        np.testing.assert_array_equal(result.maps[0].class_ids, [-1, *KEYS[image_id]])
        np.testing.assert_allclose(planes(result).sum(axis=1), 1, atol=1e-5)
    alone, _ = refine(ids=("c",), backend="jax", batch_size=2)
    np.testing.assert_allclose(planes(results[0]["c"]), planes(alone["c"]), atol=1e-5)


def test_a_picture_that_cannot_be_read_is_refused_by_name(results):
    assert results[0]["bad"] == Refused("bad", "image 'bad': no such file")


def test_a_picture_without_classes_is_background(results):
    np.testing.assert_array_equal(planes(results[0]["none"]), np.ones((2, 1, 9, 8)))


def test_few_programs(results):
    """Two padded sizes, each with a program for positions (2), for indexing and per number of labels."""
    assert results[1].program.compiled == 2 * 3 + 2 + 1


@pytest.mark.skipif(not native.is_installed(), reason="needs the extra pydensecrf")
def test_both_backends_agree(results):
    theirs, runner = refine(backend="pydensecrf", workers=1)
    assert runner.backend == "pydensecrf" and theirs["bad"].reason == results[0]["bad"].reason
    for image_id in ("a", "b", "c", "none", "big"):
        np.testing.assert_allclose(planes(results[0][image_id]), planes(theirs[image_id]), atol=1e-4)


def test_label_slots():
    assert [label_slots(n) for n in (1, 2, 3, 4, 5, 8, 9, 21)] == [2, 2, 4, 4, 8, 8, 16, 24]


def test_larger_pictures_share_smaller_batches():
    runner = CrfStream(StreamSettings(crf=PSA, batch_size=8, backend="jax"), data_mesh(jax.devices()[:2]))
    assert [runner._rows(size) for size in ((375, 500), (512, 1024), (2000, 3000))] == [8, 4, 2]


def test_a_missing_extra_is_told(monkeypatch):
    monkeypatch.setattr(stream.native, "is_installed", lambda: False)
    assert choose_backend("auto") == "jax"
    with pytest.raises(ConfigError, match=r"pip install 'wsss-jax\[pydensecrf\]'.*backend 'jax'"):
        choose_backend("pydensecrf")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "cuda"}, "backend is 'cuda': must be one of auto, jax"), ({"workers": -1}, "workers -1")],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        StreamSettings(crf=PSA, **options)


def test_jobs_check_sizes_and_classes(tmp_path):
    image = picture(0, (6, 8))
    np.savez(tmp_path / "a.npz", keys=np.array([9]), cam=np.zeros((1, 6, 8), np.float32))
    np.savez(tmp_path / "b.npz", keys=np.zeros(0, int), cam=np.zeros((0, 6, 8), np.float32))
    np.savez(tmp_path / "c.npz", keys=np.array([1]), cam=np.zeros((1, 8, 6), np.float32))
    energies = functools.partial(cam_energies, alphas=(4, 24))
    jobs = CamJobs(lambda _: image, lambda i: tmp_path / f"{i}.npz", energies, num_classes=5)
    with pytest.raises(DataError, match="class 9"):
        jobs("a")
    assert jobs("b").energies.shape == (2, 1, 6, 8)
    with pytest.raises(DataError, match="6x8 pixels, but the image is 8x6"):
        jobs("c")


def test_workers_import_no_jax(tmp_path):
    import subprocess

    from tests.helpers.scripts import command

    code = (
        "import wsss_jax.refinement.jobs, wsss_jax.runs.layout; print(*({'jax', 'flax'} & set(sys.modules)))"
    )
    done = subprocess.run(command(code), capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_results_are_of_their_types(results):
    assert {type(r) for r in results[0].values()} == {Refined, Refused}
