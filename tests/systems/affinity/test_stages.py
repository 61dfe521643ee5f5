"""Stages train_affinity, random_walk and eval_pseudo: what they write, how they go on, what they refuse."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import relative
from tests.helpers.runs import run_stages_of, tiny
from wsss_jax import interrupt
from wsss_jax.data import make_source
from wsss_jax.errors import CheckpointError, ConfigError, Interrupted, RunError, UserError
from wsss_jax.evaluation import ConfusionMatrix, mean_iou
from wsss_jax.files import unsealed
from wsss_jax.refinement.walker import Walker

CHAIN = ["train_affinity", "random_walk", "eval_pseudo"]


def config(**changes):
    """AffinityNet behind an ordinary classifier."""
    changes = {"crf__backend": "jax", "crf__iterations": 2, "crf__max_buckets": 1, **changes}
    return tiny("cam_shapes", total_epochs=1, refinement="random_walk", **changes)


def refining(cams_from, **changes):
    """The method `affinity` over another run's CAMs."""
    changes = {"crf__backend": "jax", "crf__iterations": 2, "crf__max_buckets": 1, **changes}
    return tiny("affinity_shapes", cams_from=str(cams_from), **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole chain after a classifier, as the configuration orders it; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    run_stages_of(config(), folder, None)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def without_walk(copy):
    """A run whose CAMs have not been propagated yet."""
    for folder in ("pseudo", "pseudo_scores"):
        shutil.rmtree(copy / folder)
    return copy


def source():
    return make_source("shapes", **config().dataset.shapes)


def propagated(folder):
    found = {}
    for path in sorted((folder / "pseudo_scores/val").glob("*.npz")):
        with np.load(path) as file:
            found[path.stem] = (file["keys"], file["scores"])
    return found


def masks(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((folder / "pseudo/val").glob("*.png"))}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.suffix in (".npz", ".png")}


def test_scores_and_masks_of_every_picture(finished):
    data, scores, drawn = source(), propagated(finished), masks(finished)
    assert list(scores) == list(drawn) == sorted(data.ids("val"))
    for image_id, (keys, planes) in scores.items():
        H, W = data.size(image_id)
        classes = np.flatnonzero(data.labels(image_id))
        assert keys.dtype == np.int32 and keys.tolist() == [-1, *classes]
        assert planes.dtype == np.float32 and planes.shape == (len(keys), -(-H // 8), -(-W // 8))
        assert (planes >= 0).all() and planes.max() > 0
        assert drawn[image_id].shape == (H, W)
        assert set(np.unique(drawn[image_id])) <= {0, *(classes + 1)}
    assert not list(finished.rglob("*.tmp"))


def test_the_score_at_the_fixed_share_is_that_of_the_masks(finished):
    data, confusion = source(), ConfusionMatrix(num_classes=6)
    for image_id, mask in masks(finished).items():
        confusion.add(mask, data.mask(image_id))
    metrics = json.loads((finished / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["fixed"]["threshold"] == 0.5
    wanted = 100 * mean_iou(confusion.counts, metrics["absent_classes"])
    assert metrics["fixed"]["miou"] == pytest.approx(wanted)
    assert metrics["stage"] == "eval_pseudo" and metrics["method"] == "cam" and metrics["walk_logt"] == 4
    images = {"split": "val", "list_sha256": metrics["list_sha256"]}
    assert metrics["trained_on"] == {"AffinityNet": images}
    log = (finished / "logs/log.txt").read_text()
    assert log.count("AffinityNet trained on val, the images scored") == 1
    assert "val, the images scored" in (finished / "report/index.html").read_text()
    cams = json.loads((finished / "cam/val/settings.json").read_text())
    assert metrics["cam_weights_sha256"] == cams["weights_sha256"] != metrics["weights_sha256"]


def test_training_has_its_own_checkpoints_and_log(finished):
    lines = (finished / "logs/affinity/train.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 2  # 10 pictures, batch 8, 2 epochs
    assert {"loss", "loss_bg", "loss_fg", "loss_neg"} <= last.keys()
    assert (finished / "checkpoints/affinity/2").is_dir()
    assert "AffinityNet" in (finished / "report/index.html").read_text()


def test_a_runs_folder_still_means_its_classifier(finished, tmp_path):
    run_stages_of(config(init_from=str(finished)), tmp_path, ["train"])


def test_nothing_is_done_twice(copy):
    before = times(copy)
    run_stages_of(config(), copy, CHAIN)
    assert times(copy) == before


def test_what_is_missing_is_made_again_the_same(copy, finished):
    image_id = source().ids("val")[3]
    (copy / f"pseudo_scores/val/{image_id}.npz").unlink()
    (copy / f"pseudo/val/{image_id}.png").unlink()
    run_stages_of(config(), copy, ["random_walk"])
    for name in (f"pseudo_scores/val/{image_id}.npz", f"pseudo/val/{image_id}.png"):
        assert (copy / name).read_bytes() == (finished / name).read_bytes()


def test_another_share_draws_new_masks_without_a_walk(copy, monkeypatch):
    monkeypatch.setattr(Walker, "walk", None)
    before = masks(copy)
    run_stages_of(config(walk__fixed_threshold=0.9), copy, ["random_walk", "eval_pseudo"])
    after = masks(copy)
    assert sum((mask > 0).sum() for mask in after.values()) < sum(
        (mask > 0).sum() for mask in before.values()
    )
    run_stages_of(config(), copy, ["random_walk"])
    for image_id, mask in masks(copy).items():
        np.testing.assert_array_equal(mask, before[image_id])


def test_a_share_chosen_on_another_split_is_applied(copy, tmp_path):
    other = unsealed(json.loads((copy / "metrics/eval_pseudo_val.json").read_text())) | {"split": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    run_stages_of(config(walk__threshold_from=str(tmp_path / "other.json")), copy, ["eval_pseudo"])
    metrics = json.loads((copy / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["chosen"]["threshold"] == other["oracle"]["threshold"]


def test_stopped_again_and_again_it_ends_the_same(finished, without_walk, monkeypatch):
    shutil.rmtree(without_walk / "checkpoints/affinity")
    looks = {"left": 0}

    class StopAfter:
        def __bool__(self):
            looks["left"] -= 1
            return looks["left"] < 0

    stops = 0
    for count in range(1, 20):
        monkeypatch.setattr(interrupt, "_requested", StopAfter())
        looks["left"] = 2 * count
        try:
            run_stages_of(config(checkpoint__every_steps=1), without_walk, CHAIN)
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    for image_id, (keys, scores) in propagated(without_walk).items():
        np.testing.assert_array_equal(keys, propagated(finished)[image_id][0])
        np.testing.assert_allclose(scores, propagated(finished)[image_id][1], rtol=1e-3, atol=1e-5)


def damage(folder, ids):
    """Makes the CAM files of the first four images useless, each in another way."""
    files = [folder / f"cam/val/{image_id}.npz" for image_id in ids[:4]]
    with np.load(files[1]) as file:
        keys, cam = file["keys"], file["cam"]
    files[0].write_bytes(files[0].read_bytes()[:300])
    np.savez(files[1], keys=keys, cam=cam[:, :-3])
    with np.load(files[2]) as file:
        np.savez(files[2], keys=file["keys"] + 6, cam=file["cam"])
    files[3].unlink()


def test_cams_that_cannot_be_used_are_named_and_the_others_done(without_walk, capsys):
    ids, kept = source().ids("val"), without_walk.parent / "kept"
    shutil.copytree(without_walk / "cam", kept)
    damage(without_walk, ids)
    with pytest.raises(RunError, match=r"random_walk val: 4 of 10 images were refused") as error:
        run_stages_of(config(), without_walk, ["random_walk"])
    assert "\n" not in str(error.value)
    told = capsys.readouterr().out
    for image_id, reason in zip(ids[:4], ("damaged", "pixels", "class", "missing"), strict=True):
        assert any(image_id in line and reason in line for line in told.splitlines()), (image_id, reason)
    assert sorted(masks(without_walk)) == sorted(propagated(without_walk)) == sorted(ids[4:])
    shutil.copytree(kept, without_walk / "cam", dirs_exist_ok=True)
    run_stages_of(config(), without_walk, ["random_walk"])
    assert sorted(masks(without_walk)) == sorted(ids)


def test_pictures_without_a_class_and_maps_of_zeros_are_background(without_walk):
    data = source()
    first, second = data.ids("val")[:2]
    (H, W), (h, w) = data.size(first), data.size(second)
    np.savez(without_walk / f"cam/val/{first}.npz", keys=np.zeros(0, np.int32), cam=np.zeros((0, H, W), "f4"))
    zeros = np.zeros((6, h, w), np.float32)
    np.savez(without_walk / f"cam/val/{second}.npz", keys=np.arange(6, dtype=np.int32), cam=zeros)
    run_stages_of(config(), without_walk, ["random_walk", "eval_pseudo"])
    drawn = masks(without_walk)
    assert not drawn[first].any() and not drawn[second].any()
    assert any(mask.any() for mask in drawn.values())


def test_pictures_of_odd_sizes(finished, tmp_path):
    """One pixel high, smaller than the radius, and much larger than the others."""
    rng = np.random.default_rng(0)
    sizes = {"flat": (1, 50), "tiny": (3, 2), "wide": (17, 300)}
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/classes.txt").write_text("".join(f"{c}\n" for c in "abcdef"))
    (tmp_path / "data/labels.csv").write_text("image,labels\n" + "".join(f"{n}.png,a\n" for n in sizes))
    cams = tmp_path / "run/cam/all"
    cams.mkdir(parents=True)
    shutil.copy(finished / "cam/val/settings.json", cams)
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"data/images/{name}.png"
        )
        np.savez(
            cams / f"{name}.npz", keys=np.zeros(1, np.int32), cam=rng.random((1, *size)).astype(np.float32)
        )
    network = str(finished / "checkpoints/affinity")
    own = refining(
        tmp_path / "run",
        dataset__name="folder",
        dataset__root=str(tmp_path / "data"),
        dataset__infer_split="all",
        walk__checkpoint=network,
    )
    run_stages_of(own, tmp_path / "walk", ["random_walk"])
    for name, size in sizes.items():
        assert np.asarray(Image.open(tmp_path / f"walk/pseudo/all/{name}.png")).shape == size


def test_the_method_affinity_refines_another_runs_cams(finished, tmp_path, capsys):
    own = refining(finished, walk__checkpoint=str(finished / "checkpoints/affinity"))
    run_stages_of(own, tmp_path, None)
    for image_id, (_, scores) in propagated(tmp_path).items():
        assert relative(scores, propagated(finished)[image_id][1]) < 1e-5
    assert not (tmp_path / "cam").exists() and not (tmp_path / "checkpoints").exists()
    assert f"train_affinity: {finished / 'checkpoints/affinity'}" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["trained_on"]["AffinityNet"]["split"] == "val"  # its checkpoint knows
    assert (tmp_path / "report/index.html").exists()


def test_stages_say_what_they_need(finished, tmp_path):
    shutil.copytree(finished / "cam", tmp_path / "cam")
    with pytest.raises(RunError, match=r"alpha_04.*no CRF scores.*stage crf first.*crf.alphas"):
        run_stages_of(config(), tmp_path, ["train_affinity"])
    with pytest.raises(RunError, match=r"AffinityNet is not trained yet.*train_affinity"):
        run_stages_of(config(), tmp_path, ["random_walk"])
    with pytest.raises(RunError, match=r"random_walk"):
        run_stages_of(config(), tmp_path, ["eval_pseudo"])


def test_results_of_other_settings_are_not_mixed(copy):
    with pytest.raises(RunError, match=r"propagated scores made with walk_beta 8.0, now 4.0"):
        run_stages_of(config(walk__beta=4.0), copy, ["random_walk"])
    with pytest.raises(RunError, match=r"AffinityNet's checkpoints made with crop 32.* radius 2, now 3"):
        run_stages_of(config(affinity__radius=3, affinity__crop=48), copy, ["train_affinity"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"affinity__batch_size": 9}, r"config.affinity.batch_size=9.*8 device"),
        ({"affinity__crop": 36}, r"affinity.crop=36.*multiple of 8"),
        ({"affinity__crop": 16}, r"affinity.crop=16, affinity.radius=2"),
        ({"affinity__alpha_low": 40.0}, r"affinity.alpha_low=40.0.*less than alpha_high"),
        ({"affinity__init_from": "scratch"}, r"affinity.init_from='scratch'.*trained trunk"),
        ({"affinity__init_from": "nowhere.pth"}, r"nowhere.pth.*no such file"),
        ({"walk__method": "dense"}, r"walk.method='dense'.*'chebyshev', 'stencil'"),
        ({"walk__thresholds": (0.5, 0.4)}, r"walk.thresholds"),
        ({"cams_from": "elsewhere"}, r"cams_from='elsewhere'.*method affinity"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(copy, changes, message):
    shutil.rmtree(copy / "checkpoints/affinity")
    with pytest.raises(UserError, match=message) as error:
        run_stages_of(config(**changes), copy, ["train_affinity"])
    assert "\n" not in str(error.value)


def test_the_method_affinity_needs_a_run_to_refine(tmp_path):
    with pytest.raises(ConfigError, match="cams_from=''"):
        run_stages_of(refining(""), tmp_path, None)


@pytest.mark.parametrize("stages", [["crf"], ["eval_cam"], ["train_affinity"], ["random_walk"]])
def test_cams_that_the_other_run_lacks(tmp_path, stages):
    """The run that makes CAMs is named, and the split: this one has no stage that could make them."""
    with pytest.raises(RunError) as error:
        run_stages_of(refining(tmp_path / "other"), tmp_path / "run", stages)
    message = str(error.value)
    path = tmp_path / "other/cam/val/settings.json"
    assert f"{path}: the run that config.cams_from names has no CAMs" in message
    assert "run its stage infer_cam with --config.dataset.infer_split=val first" in message


def test_a_file_without_the_branches_is_no_affinity_net(finished, tmp_path):
    own = refining(finished, walk__checkpoint=str(finished / "checkpoints/classifier"))
    with pytest.raises(CheckpointError, match=r"f9/kernel"):
        run_stages_of(own, tmp_path, ["random_walk"])
