"""Stages `crf` and `eval_crf` on drawn images."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.helpers.runs import run_stages_of, tiny
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.shapes import Shapes
from wsss_jax.errors import ConfigError, DataError, Interrupted, RunError
from wsss_jax.evaluation import ConfusionMatrix, labels_from_scores, mean_iou
from wsss_jax.files import write_json
from wsss_jax.refinement import native
from wsss_jax.stages import batches

SHAPES = {"num_train": 8, "num_val": 5, "image_size": 40, "seed": 0}
STAGES = ["crf", "eval_crf"]


def config(**changes):
    made = tiny("cam_shapes", total_epochs=1, crf__backend="jax", crf__alphas=(4.0, 24.0), crf__max_buckets=1)
    made.crf.iterations = 2
    made.dataset.shapes = SHAPES
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return made


def source():
    return Shapes(**SHAPES)


def scores(folder, image_id, alpha="04"):
    with np.load(folder / f"crf/val/alpha_{alpha}/{image_id}.npz") as file:
        return file["keys"], file["scores"]


def write_cams(folder):
    """A run's folder with CAMs that a run could have made: blocks around the middle."""
    data = source()
    rng = np.random.default_rng(0)
    path = folder / "cam/val"
    path.mkdir(parents=True)
    for i, image_id in enumerate(data.ids("val")):
        H, W = data.size(image_id)
        keys = np.flatnonzero(data.labels(image_id)).astype(np.int32) if i else np.zeros(0, np.int32)
        cam = np.zeros((len(keys), H, W), np.float32)
        if i > 1:  # image 0 has no class, image 1 maps of zeros
            cam[:, H // 4 : -H // 4, W // 4 : -W // 4] = rng.uniform(0.4, 1, (len(keys), 1, 1))
        np.savez(path / f"{image_id}.npz", keys=keys, cam=cam)
    settings = {
        "method": "cam", "dataset": "shapes", "list_sha256": "0" * 64, "weights_sha256": "1" * 64,
        "scales": [1.0], "flip": True, "class_filter": "given",
    }  # fmt: skip
    write_json(path / "settings.json", settings)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of both stages; tests must leave it as it is."""
    folder = write_cams(tmp_path_factory.mktemp("run"))
    run_stages_of(config(), folder, STAGES)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_on_maps_of_0_and_255_only_the_threshold_counts(finished, tmp_path):
    """What is above 0.15 is 255, whatever it was: halved maps give the same scores."""
    on = config(crf__binarised=True, crf__alphas=(4.0,))
    run_stages_of(on, write_cams(tmp_path), ["crf"])
    image_id = source().ids("val")[2]
    _, whole = scores(tmp_path, image_id)
    with np.load(tmp_path / f"cam/val/{image_id}.npz") as file:
        np.savez(tmp_path / f"cam/val/{image_id}.npz", keys=file["keys"], cam=file["cam"] / 2)
    (tmp_path / f"crf/val/alpha_04/{image_id}.npz").unlink()
    run_stages_of(on, tmp_path, ["crf"])
    np.testing.assert_array_equal(scores(tmp_path, image_id)[1], whole)
    assert np.abs(whole - scores(finished, image_id)[1]).max() > 0.1  # of the soft maps
    made = json.loads((tmp_path / "crf/val/alpha_04/settings.json").read_text())["crf"]
    assert made.endswith("srgb 13, of maps of 0 and 255")
    with pytest.raises(RunError, match=r"CRF scores made with crf .*of maps of 0 and 255.*choose another"):
        run_stages_of(config(crf__alphas=(4.0,)), tmp_path, ["crf"])
    with pytest.raises(ConfigError, match=r"crf.alphas=\(4.5,\): with crf.binarised they must be whole"):
        run_stages_of(config(crf__binarised=True, crf__alphas=(4.5,)), tmp_path, ["crf"])


def test_score_files_keep_their_promises(finished):
    data = source()
    for number, image_id in enumerate(data.ids("val")):
        for alpha in ("04", "24"):
            keys, planes = scores(finished, image_id, alpha)
            classes = np.flatnonzero(data.labels(image_id)) if number else []
            assert keys.dtype == np.int32 and keys.tolist() == [-1, *classes]
            assert planes.dtype == np.float32 and planes.shape == (len(keys), *data.size(image_id))
            np.testing.assert_allclose(planes.sum(axis=0), 1, atol=1e-5)
    assert not list(finished.rglob("*.tmp"))


def test_less_background_for_higher_alphas(finished):
    image_id = source().ids("val")[3]
    low, high = (scores(finished, image_id, alpha)[1][0].mean() for alpha in ("04", "24"))
    assert high < low


def test_pictures_without_a_class_or_with_maps_of_zeros_are_background(finished):
    for image_id in source().ids("val")[:2]:
        assert not scores(finished, image_id)[1].argmax(axis=0).any()


def test_metrics_are_those_of_the_argmax_and_say_what_they_are(finished):
    data, confusion = source(), ConfusionMatrix(num_classes=6)
    for image_id in data.ids("val"):
        keys, planes = scores(finished, image_id)
        confusion.add(labels_from_scores(ClassMaps(keys, planes), 6), data.mask(image_id))
    metrics = json.loads((finished / "metrics/eval_crf_alpha_04_val.json").read_text())
    assert metrics["fixed"]["miou"] == pytest.approx(
        100 * mean_iou(confusion.counts, metrics["absent_classes"])
    )
    assert metrics["stage"] == "eval_crf_alpha_04" and metrics["images"] == 5
    assert metrics["crf"].startswith("alpha 4, 2 iterations") and metrics["weights_sha256"] == "1" * 64
    assert (finished / "metrics/eval_crf_alpha_24_val.json").is_file()


def test_a_resumed_run_makes_what_is_missing_and_no_more(copy, finished, capsys):
    image_id = source().ids("val")[2]
    path = copy / f"crf/val/alpha_24/{image_id}.npz"
    path.unlink()
    before = {p: p.stat().st_mtime_ns for p in (copy / "crf").rglob("*.npz")}
    run_stages_of(config(), copy, ["crf"])
    after = {p: p.stat().st_mtime_ns for p in (copy / "crf").rglob("*.npz")}
    assert after.pop(path) and after == before
    np.testing.assert_allclose(
        scores(copy, image_id, "24")[1], scores(finished, image_id, "24")[1], atol=1e-6
    )
    run_stages_of(config(), copy, ["crf"])
    assert "crf val: done already" in capsys.readouterr().out


def test_another_alpha_is_added(copy):
    run_stages_of(config(crf__alphas=(4.0, 4.5)), copy, STAGES)
    assert len(list((copy / "crf/val/alpha_4.5").glob("*.npz"))) == 5
    assert (copy / "metrics/eval_crf_alpha_4.5_val.json").is_file()


def test_scores_of_other_kernels_are_not_mixed(copy):
    with pytest.raises(RunError, match=r"2 iterations.*now 'alpha 4, 3 iterations.*delete it"):
        run_stages_of(config(crf__iterations=3), copy, ["crf"])


def test_a_stop_keeps_what_is_done(tmp_path, monkeypatch):
    folder = write_cams(tmp_path / "run")

    def stop(saved):
        raise Interrupted(saved)

    monkeypatch.setattr(batches, "stop_here", stop)
    with pytest.raises(Interrupted, match=r"crf has written \d of 5 images"):
        run_stages_of(config(), folder, ["crf"])
    done = len(list((folder / "crf/val/alpha_04").glob("*.npz")))
    assert 0 < done < 5


@pytest.mark.skipif(not native.is_installed(), reason="needs the extra pydensecrf")
def test_bad_files_are_named_and_the_others_done(tmp_path):
    folder, ids = write_cams(tmp_path / "run"), source().ids("val")
    path = folder / "cam/val"
    (path / f"{ids[0]}.npz").write_bytes((path / f"{ids[0]}.npz").read_bytes()[:99])
    np.savez(path / f"{ids[1]}.npz", keys=np.array([0]), cam=np.zeros((1, 9, 9), np.float32))
    H, W = source().size(ids[2])
    np.savez(path / f"{ids[2]}.npz", keys=np.array([6]), cam=np.zeros((1, H, W), np.float32))
    with pytest.raises(RunError) as error:
        run_stages_of(config(crf__backend="pydensecrf", crf__workers=1), folder, ["crf"])
    message = str(error.value)
    assert "\n" not in message and "3 of 5 images were refused, the others are done" in message
    for image_id, reason in zip(
        ids, ("is damaged", "holds maps of 9x9 pixels", "has the class 6"), strict=False
    ):
        assert re.search(rf"image '{image_id}'.*?{reason}", message)
        assert not (folder / f"crf/val/alpha_04/{image_id}.npz").exists()
    assert all((folder / f"crf/val/alpha_04/{i}.npz").is_file() for i in ids[3:])
    with pytest.raises(DataError, match=rf"{ids[0]}.*run the stage crf first"):
        run_stages_of(config(), folder, ["eval_crf"])


def test_stages_say_what_they_need(tmp_path):
    with pytest.raises(RunError, match="run the stage infer_cam first"):
        run_stages_of(config(), tmp_path, ["crf"])
    with pytest.raises(RunError, match="run the stage crf first"):
        run_stages_of(config(), tmp_path, ["eval_crf"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crf__alphas": ()}, r"crf.alphas=\(\): must be one or more different numbers greater than 0"),
        ({"crf__alphas": (4.0, 4.0)}, "crf.alphas"),
        ({"crf__backend": "gpu"}, "crf.backend='gpu': must be one of 'auto', 'jax', 'pydensecrf'"),
        ({"crf__bilateral_srgb": 0.0}, "crf.bilateral_srgb=0.0: must be greater than 0"),
        ({"refinement": "crff"}, "refinement='crff'"),
    ],
)
def test_settings_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run_stages_of(config(**changes), tmp_path, ["crf"])


def test_the_chain_follows_any_method(tmp_path):
    made = config(refinement="crf", crf__iterations=1)
    run_stages_of(made, tmp_path, None)
    assert (tmp_path / "metrics/eval_crf_alpha_04_val.json").is_file()
    assert "alpha 4" in (tmp_path / "report/index.html").read_text()
