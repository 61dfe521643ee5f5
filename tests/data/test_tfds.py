import json
import pickle
import shutil

import numpy as np
import pytest

from tests.helpers.runs import run_stages_of, tiny
from tests.helpers.voc import make_voc
from wsss_jax import prepare
from wsss_jax.data import make_source, tfds_source
from wsss_jax.errors import ConfigError, DataError

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("voc"), num_train=8)


@pytest.fixture(scope="module")
def root(voc, tmp_path_factory):
    out = tmp_path_factory.mktemp("tfds")
    (voc / "SegmentationClassAug" / "2007_000011.png").unlink()  # known by val, without a mask
    (voc / "ImageSets/Segmentation/val.txt").write_text("2007_000009\n2007_000010\n2007_000011\n")
    prepare.main(["voc12", str(voc), f"--tfds={out}"])
    return out / "voc12" / "1.0.0"


def test_the_same_images_labels_and_masks_as_the_folder(voc, root):
    source, folder = make_source("tfds", root), make_source("voc12", voc)
    assert source.classes == folder.classes
    for split in ("train", "val", "trainval", "train_aug"):
        assert source.ids(split) == folder.ids(split)
    for image_id in {*source.ids("train_aug"), *source.ids("val")}:
        np.testing.assert_array_equal(source.image(image_id), folder.image(image_id))
        np.testing.assert_array_equal(source.labels(image_id), folder.labels(image_id))
        assert source.size(image_id) == folder.size(image_id)
        assert source.has_mask(image_id) == folder.has_mask(image_id)
        np.testing.assert_array_equal(source.mask(image_id), folder.mask(image_id))
    assert source.mask("2007_000011") is None and not source.has_mask("2007_000011")


def test_can_be_pickled_and_takes_lists(root, tmp_path):
    source = make_source("tfds", root)
    source.image("2007_000003")
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and len(pickle.dumps(source)) < 500
    np.testing.assert_array_equal(copy.image("2007_000003"), source.image("2007_000003"))
    (tmp_path / "mine.txt").write_text("2007_000003\n2007_000001\n")
    assert source.ids(str(tmp_path / "mine.txt")) == ("2007_000003", "2007_000001")
    (tmp_path / "mine.txt").write_text("2007_000099\n")
    with pytest.raises(DataError, match="'2007_000099' is not in"):
        source.ids(str(tmp_path / "mine.txt"))
    with pytest.raises(DataError, match="has train_aug, train, val, trainval"):
        source.ids("test")


def test_a_run(root, tmp_path):
    config = tiny("cam_voc", total_epochs=1, loader__workers=1)
    config.dataset.update({"name": "tfds", "root": str(root), "train_split": "train", "eval_split": "train"})
    run_stages_of(config, tmp_path, ("train", "infer_cam", "eval_cam"))
    metrics = json.loads((tmp_path / "metrics/eval_cam_train.json").read_text())
    assert metrics["images"] == 8 and metrics["dataset"] == "tfds"


def test_roots_that_cannot_be_read(root, tmp_path):
    with pytest.raises(DataError, match=r"has no dataset_info\.json"):
        make_source("tfds", root.parent)
    damaged = shutil.copytree(root, tmp_path / "1.0.0")
    (damaged / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="no data set of TensorFlow Datasets"):
        make_source("tfds", damaged).ids("train")
    shutil.copy(root / "dataset_info.json", damaged)
    (damaged / "metadata.json").write_text("{}")
    with pytest.raises(DataError, match="no classes, splits, ids"):
        make_source("tfds", damaged).ids("train")
    shutil.copy(root / "metadata.json", damaged)
    (records,) = damaged.glob("*.array_record-*")
    records.write_bytes(records.read_bytes()[:1000])
    source = make_source("tfds", damaged)
    with pytest.raises(DataError, match="image '2007_000001': cannot be read"):
        source.image("2007_000001")


def test_what_is_there_is_not_written_over(voc, root, capsys):
    with pytest.raises(SystemExit):
        prepare.main(["voc12", str(voc), f"--tfds={root.parents[1]}"])
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        prepare.main(["voc12", str(voc)])
    assert "needs no preparation" in capsys.readouterr().err


def test_a_damaged_image_leaves_nothing(voc, tmp_path):
    copy = shutil.copytree(voc, tmp_path / "VOC2012")
    (copy / "JPEGImages/2007_000002.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2007_000002"):
        prepare.write_tfds("voc12", copy, tmp_path / "out")
    assert not (tmp_path / "out/voc12/1.0.0").exists()
    shutil.copy(voc / "JPEGImages/2007_000002.jpg", copy / "JPEGImages")
    prepare.write_tfds("voc12", copy, tmp_path / "out")
    assert (tmp_path / "out/voc12/1.0.0/dataset_info.json").exists()


def test_without_tensorflow_datasets(monkeypatch, root):
    monkeypatch.setattr(tfds_source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'wsss-jax\[tfds\]'"):
        make_source("tfds", root)
