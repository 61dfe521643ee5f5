"""Whole runs of the real configurations, shrunk, and what stops one."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.runs import run_stages_of, tiny
from tests.helpers.voc import make_voc, write_annotation
from wsss_jax.data.shapes import Shapes
from wsss_jax.errors import CheckpointError, ConfigError, DataError, RunError, UserError
from wsss_jax.files import unsealed
from wsss_jax.runs.layout import Layout


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of cse on drawn images, with the classifier it needs; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny("cse_shapes", eval__every_epochs=1)
    run_stages_of(config, folder, None)
    return folder, config


def test_all_results_are_there(finished):
    folder, _ = finished
    ids = [f"val_{i:05d}" for i in range(10)]
    for run in (folder, folder / "classifier"):
        names = {p.name for p in (run / "cam/val").iterdir()}
        assert names == {*(f"{i}.npz" for i in ids), "settings.json"}
        assert (run / "metrics/eval_cam_val.json").is_file() and (run / "logs/train.jsonl").is_file()
    assert (folder / "report/index.html").is_file()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["packages"]["jax"] and manifest["devices"]
    assert not [name for name in files(folder) if name.endswith(".tmp")]


def test_cam_files_keep_their_promises(finished):
    folder, config = finished
    source = Shapes(**config.dataset.shapes)
    for image_id in source.ids("val"):
        with np.load(folder / f"cam/val/{image_id}.npz") as file:
            keys, cam = file["keys"], file["cam"]
        np.testing.assert_array_equal(keys, np.flatnonzero(source.labels(image_id)))
        assert keys.dtype == np.int32 and cam.dtype == np.float32
        assert cam.shape == (len(keys), *source.size(image_id))
        assert cam.min() >= 0 and cam.max() <= 1


def test_metrics_say_what_they_are(finished):
    folder, _ = finished
    metrics = json.loads((folder / "metrics/eval_cam_val.json").read_text())
    checkpoint = max((folder / "checkpoints/er").glob("[0-9]*"), key=lambda p: p.name)
    assert metrics["method"] == "cse" and metrics["split"] == "val" and metrics["images"] == 10
    assert len(metrics["list_sha256"]) == 64 and len(metrics["weights_sha256"]) == 64
    assert metrics["fixed"]["threshold"] == pytest.approx(0.3) and len(metrics["fixed"]["iou"]) == 7
    assert metrics["oracle"]["miou"] == pytest.approx(max(metrics["miou_curve"]))
    assert checkpoint.is_dir()


def test_the_report_compares_with_the_ordinary_classifier(finished):
    page = (finished[0] / "report/index.html").read_text()
    assert "OC-CSE" in page and "ordinary classifier" in page


def test_the_same_command_does_nothing_twice(finished, capsys):
    folder, config = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "cam").rglob("*.npz")}
    run_stages_of(config, folder, ["train", "infer_cam"])
    assert {p: p.stat().st_mtime_ns for p in (folder / "cam").rglob("*.npz")} == before
    assert re.findall(r"(train|infer_cam val): done already", capsys.readouterr().out) == [
        "train",
        "infer_cam val",
    ]


def test_another_configuration_may_not_use_the_folder(finished):
    folder, _ = finished
    config = tiny("cse_shapes", optimizer__learning_rate=0.5)
    with pytest.raises(
        ConfigError, match=r"made with config.optimizer.learning_rate=.*now it is 0.5.*--workdir"
    ):
        run_stages_of(config, folder, ["train"])


def test_a_run_that_made_nothing_does_not_bind_its_folder(tmp_path):
    """The remedies that its message gives work in the same folder."""
    with pytest.raises(ConfigError, match=r"--config.batch_size=8"):
        run_stages_of(tiny("cam_shapes", batch_size=9), tmp_path, ["train"])
    with pytest.raises(RunError, match=r"NaN.*none is saved yet; lower --config.optimizer.learning_rate or"):
        run_stages_of(tiny("cam_shapes", optimizer__learning_rate=1e30), tmp_path, ["train"])
    run_stages_of(tiny("cam_shapes", total_epochs=1), tmp_path, ["train"])
    with pytest.raises(ConfigError, match=r"made with config.batch_size=8, and now it is 16"):
        run_stages_of(tiny("cam_shapes", total_epochs=1, batch_size=16), tmp_path, ["train"])


def test_what_binds_a_folder(tmp_path):
    layout = Layout(tmp_path)
    nothing = (
        "config.json",
        "manifest.json",
        ".lock",
        "logs/train.jsonl",
        "cam/val/settings.json",
        "cam/val/.a.tmp",
        "checkpoints/er/3.orbax-checkpoint-tmp/meta/metadata",
        "classifier/config.json",
        "classifier/checkpoints/classifier/3/meta/metadata",
    )
    for name in nothing:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert not layout.holds_results() and Layout(tmp_path / "classifier").holds_results()
    (tmp_path / "cam/val/a.npz").write_text("")
    assert layout.holds_results()


def test_cams_of_other_settings_are_not_mixed(finished):
    folder, _ = finished
    with pytest.raises(RunError, match=r"scales \[1.0\], now \[1.0, 2.0\]; delete it"):
        run_stages_of(tiny("cse_shapes", cam__scales=(1.0, 2.0)), folder, ["infer_cam"])


def test_a_damaged_cam_file_is_named(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    path = copy / "cam/val/val_00003.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"val_00003.npz is damaged .*; delete it"):
        run_stages_of(finished[1], copy, ["eval_cam"])
    path.unlink()
    with pytest.raises(DataError, match=r"val_00003.*infer_cam"):
        run_stages_of(finished[1], copy, ["eval_cam"])
    run_stages_of(finished[1], copy, ["infer_cam", "eval_cam"])
    assert path.read_bytes() == (finished[0] / "cam/val/val_00003.npz").read_bytes()


def test_stages_say_what_they_need(tmp_path):
    config = tiny("cse_shapes")
    for stages, missing in ((["train"], "classifier"), (["eval_cam"], "infer_cam"), (["report"], "eval_cam")):
        with pytest.raises(RunError, match=missing):
            run_stages_of(config, tmp_path, stages)
    with pytest.raises(RunError, match="train"):
        run_stages_of(tiny("cam_shapes"), tmp_path / "cam", ["infer_cam"])


def test_a_misspelt_stage_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean infer_cam"):
        run_stages_of(tiny("cam_shapes"), tmp_path, ["infercam"])


@pytest.mark.parametrize("name", ["cam_voc", "cse_voc"])
def test_voc_configurations_run_on_a_devkit(tmp_path, name):
    voc = make_voc(tmp_path, num_train=6, num_val=2, num_aug=6)
    write_annotation(voc, "2007_000001", [])  # a negative
    config = tiny(name, dataset__root=str(voc), total_epochs=1, cam__scales=(1.0, 0.5))
    if name == "cse_voc":
        config.classifier.batch_size = 8
    run_stages_of(config, tmp_path / "run", None)
    metrics = json.loads((tmp_path / "run/metrics/eval_cam_train.json").read_text())
    assert metrics["images"] == 6 and len(metrics["classes"]) == 20
    with np.load(tmp_path / "run/cam/train/2007_000001.npz") as file:
        assert file["keys"].shape == (0,) and file["cam"].shape == (0, 40, 60)


def test_a_users_own_folder_runs(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data/images").mkdir(parents=True)
    rows = ["image,labels"]
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(
            tmp_path / f"data/images/my pic {i}.png"
        )
        rows.append(f"my pic {i}.png,{'cat;dog' if i % 2 else 'cat'}")
    (tmp_path / "data/labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "data/classes.txt").write_text("cat\ndog\n")
    config = tiny("cam_shapes", dataset__name="folder", dataset__root=str(tmp_path / "data"), total_epochs=1)
    config.dataset.train_split = config.dataset.infer_split = config.dataset.eval_split = "all"
    run_stages_of(config, tmp_path / "run", ["train", "infer_cam"])
    assert len(list((tmp_path / "run/cam/all").glob("my pic*.npz"))) == 8
    with pytest.raises(DataError, match=r"has no mask"):
        run_stages_of(config, tmp_path / "run", ["eval_cam"])


def test_predicted_classes_need_no_labels_and_npy_files_are_the_references(tmp_path):
    config = tiny("cam_shapes", total_epochs=1, cam__class_filter="predicted", cam__export_npy=True)
    run_stages_of(config, tmp_path, ["train", "infer_cam"])
    for path in (tmp_path / "cam_npy/val").glob("*.npy"):
        theirs = np.load(path, allow_pickle=True).item()
        with np.load(tmp_path / f"cam/val/{path.stem}.npz") as ours:
            assert sorted(theirs) == list(ours["keys"]) and len(theirs) >= 1
            np.testing.assert_array_equal(np.stack([theirs[k] for k in sorted(theirs)]), ours["cam"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9}, r"batch_size=9.*8 device.*--config.batch_size=8"),
        ({"batch_size": 32}, r"24 images do not fill one batch of 32"),
        ({"init_from": "nowhere.pth"}, r"init_from='nowhere.pth'.*no such file.*docs/checkpoints.md"),
        ({"dataset__root": "nowhere", "dataset__name": "voc12"}, r"nowhere"),
        ({"dataset__name": "voc13"}, r"dataset.name='voc13'.*'voc12'"),
        ({"cam__class_filter": "some"}, r"class_filter='some'.*'given', 'predicted', 'all'"),
        ({"method": "csee"}, r"method='csee'.*cam, cse"),
        ({"total_epochs": 0}, r"total_epochs=0.*greater than 0"),
        ({"augment__resize_long": (50, 40)}, r"resize_long=\(50, 40\)"),
        ({"dataset__train_split": "trian"}, r"trian"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        run_stages_of(tiny("cam_shapes", **changes), tmp_path / "run", ["train"])
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused_by_name(finished, tmp_path):
    config = tiny("cam_shapes", init_from=str(finished[0]), model__width=1 / 16)
    with pytest.raises(
        CheckpointError, match=r"trunk/conv1a/kernel is \(3, 3, 3, 2\) instead of \(3, 3, 3, 4\)"
    ):
        run_stages_of(config, tmp_path, ["train"])


def test_a_run_starts_from_another_runs_weights_with_a_fresh_head(finished, tmp_path):
    voc = make_voc(tmp_path, num_train=6, num_val=2, num_aug=6)
    config = tiny("cam_voc", dataset__root=str(voc), batch_size=8, total_epochs=1, init_from=str(finished[0]))
    with pytest.raises(CheckpointError, match="fc8/kernel"):  # 6 classes there, 20 here
        run_stages_of(config, tmp_path / "refused", ["train"])
    config.model.fresh_heads = ("fc8",)
    run_stages_of(config, tmp_path / "run", ["train"])


def test_a_work_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.*--workdir"):
        run_stages_of(tiny("cam_shapes"), tmp_path / "file" / "run", ["train"])


def test_a_threshold_chosen_on_another_split_is_applied(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    other = unsealed(json.loads((copy / "metrics/eval_cam_val.json").read_text())) | {"split": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    config = tiny("cse_shapes", eval__threshold_from=str(tmp_path / "other.json"), eval__every_epochs=1)
    run_stages_of(config, copy, ["eval_cam"])
    metrics = json.loads((copy / "metrics/eval_cam_val.json").read_text())
    assert metrics["chosen"]["split"] == "other"
    assert metrics["chosen"]["threshold"] == other["oracle"]["threshold"]
    config.eval.threshold_from = str(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match=r"missing.json.*metrics"):
        run_stages_of(config, copy, ["eval_cam"])
