"""SC-CAM's rounds: their stages, what they hand on, and what stops them."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN
from tests.helpers.networks import narrow_variables, relative
from tests.helpers.runs import make_method, open_run, run_stages_of, tiny
from wsss_jax.config import defaults, validate
from wsss_jax.data.arrays import read_npz
from wsss_jax.data.lists import sha256
from wsss_jax.errors import CheckpointError, ConfigError, RunError
from wsss_jax.files import sealed
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.stages.networks import load_variables, other_heads
from wsss_jax.systems.sc_cam.cluster import cluster_classes, k_means
from wsss_jax.systems.sc_cam.features import pooled_features
from wsss_jax.systems.sc_cam.rounds import last_epoch, round_of
from wsss_jax.systems.sc_cam.subcategories import load_sub_labels
from wsss_jax.training.checkpoints import read_meta, restore, steps
from wsss_jax.weights import from_variables

OWN = ["features", "cluster", "train"]


def config_of(**changes):
    return tiny("sc_cam_shapes", **{"sc_cam__k": 2, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of two rounds; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("sc_cam")
    config = config_of()
    assert config.sc_cam.rounds == 2
    run_stages_of(config, folder, None)
    return folder, config


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def sub_labels(folder):
    return load_sub_labels(folder / "sub_labels/train.npz")


@pytest.fixture(scope="module")
def pseudo():
    with np.load(GOLDEN / "sccam_pseudo.npz") as file:
        return {key: file[key] for key in file.files}


def test_sub_labels_are_those_of_the_authors_but_for_their_numbers(pseudo):
    k, labels = int(pseudo["k"]), pseudo["labels"]
    ours = np.zeros((len(labels), 20 * k), np.uint8)
    for c, found in enumerate(cluster_classes(pseudo["features"], labels, k, restarts=10)):
        rows = pseudo["row_class"] == c
        np.testing.assert_array_equal(found.members, pseudo["row_image"][rows])
        pairs = set(zip(found.assigned.tolist(), pseudo["row_cluster"][rows].tolist(), strict=True))
        assert len(pairs) == k  # one to one: their numbers of our clusters
        numbers = np.array([theirs for _, theirs in sorted(pairs)])
        ours[found.members, c * k + numbers[found.assigned]] = 1
    np.testing.assert_array_equal(ours[pseudo["kept_image"]], pseudo["label_sub"])
    assert not ours[np.setdiff1d(np.arange(len(labels)), pseudo["kept_image"])].any()


def test_a_class_with_few_images_gets_as_many_clusters():
    features = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    assigned, distances = k_means(features, k=10, restarts=1)
    assert sorted(assigned) == [0, 1, 2]
    np.testing.assert_allclose(distances, 0, atol=1e-6)
    assert k_means(features[:0], k=10, restarts=1)[0].shape == (0,)
    assert (k_means(np.ones((4, 5), np.float32), k=2, restarts=1)[0] == 0).all()  # all images alike


def test_every_round_leaves_its_results(finished):
    folder, _ = finished
    for place in (folder / "round_1", folder):
        names = {path.name for path in (place / "features/train").iterdir()}
        assert names == {*(f"train_{i:05d}.npz" for i in range(24)), "settings.json"}
        assert (place / "metrics/eval_cam_val.json").is_file()
        for name in ("snail", "kite"):
            with Image.open(place / f"subcategories/{name}.png") as sheet:
                assert sheet.format == "PNG" and sheet.width > 200
    assert (folder / "classifier/metrics/eval_cam_val.json").is_file()
    page = (folder / "report/index.html").read_text()
    for text in ("SC-CAM, round 1", "ordinary classifier", "Subcategories of snail"):
        assert text in page


def test_each_round_ends_at_the_epoch_that_it_hands_on(finished):
    folder, config = finished
    assert tuple(config.sc_cam.handoff_epochs) == (0, 1) and config.total_epochs == 2
    for place, epochs in ((folder / "round_1", 1), (folder, 2)):
        last = place / "checkpoints/classifier" / str(steps(place / "checkpoints/classifier")[-1])
        assert read_meta(last)["epochs"] == epochs


def test_the_learning_rate_falls_as_if_all_epochs_were_to_come(tmp_path, finished):
    """Round 1's weights are those that a run of two epochs has after its first."""
    config = config_of(
        sc_cam__rounds=1, sc_cam__hand_on=(1,), classifier_from=str(finished[0] / "classifier")
    )
    run_stages_of(config, tmp_path / "run", OWN)
    inner = restore(finished[0] / "round_1/checkpoints/classifier/3").variables
    outer = restore(tmp_path / "run/checkpoints/classifier/3").variables
    head = "params", "fc8_200", "kernel"
    found, wanted = (tree[head[0]][head[1]][head[2]] for tree in (inner, outer))
    np.testing.assert_array_equal(found, wanted)


def test_features_are_means_of_conv6_of_each_picture_alone(finished):
    folder, config = finished
    run = open_run(config, folder)
    network = pooled_features(config)
    variables = load_variables(
        run, folder / "round_1/checkpoints/classifier/3", network, ignore=other_heads(network)
    )
    for image_id in ("train_00000", "train_00013"):
        images = IMAGENET.images(run.source.image(image_id)[None])
        alone = jax.jit(network.apply)(variables, images)[0]
        (found,) = read_npz(folder / f"features/train/{image_id}.npz", "feature")
        assert relative(found, alone) < 1e-4


def test_each_class_of_an_image_has_one_sub_category(finished):
    folder, config = finished
    source = open_run(config, folder).source
    found = sub_labels(folder)
    ids = source.ids("train")
    labels = np.stack([source.labels(i) for i in ids])
    np.testing.assert_array_equal(found.labels.reshape(24, 6, 2).sum(2), labels)
    assert found.provenance["list_sha256"] == sha256(ids) and found.provenance["k"] == 2
    first = sub_labels(folder / "round_1")
    assert first.provenance["weights_sha256"] != found.provenance["weights_sha256"]


def test_the_same_command_does_nothing_twice(finished, capsys):
    run_stages_of(finished[1], finished[0], ["rounds", *OWN, "infer_cam"])
    said = re.findall(r"^(\w+).*: done already", capsys.readouterr().out, re.MULTILINE)
    assert said == [*OWN, "infer_cam"] * 2


def test_a_moved_run_goes_on(copy, capsys):
    run_stages_of(config_of(), copy, ["rounds", *OWN])
    said = re.findall(r"^(\w+).*: done already", capsys.readouterr().out, re.MULTILINE)
    assert said == [*OWN, "infer_cam", *OWN]


def test_maps_of_sub_categories_can_be_asked_for(copy):
    shutil.rmtree(copy / "cam")
    options = {"sc_cam__maps": "subcategories", "cam__export_npy": True, "cam__binarised_npy": True}
    run_stages_of(config_of(**options), copy, ["infer_cam", "eval_cam"])
    with np.load(copy / "cam/val/val_00000.npz") as file:
        keys, cam = file["keys"], file["cam"]
    assert cam.reshape(len(keys), -1).max(1) == pytest.approx(1, abs=1e-3)
    exported = np.load(copy / "cam_npy/val/val_00000.npy", allow_pickle=True).item()
    assert sorted(exported) == list(keys) and set(np.unique(exported[keys[0]])) <= {0, 255}
    with pytest.raises(RunError, match=r"sc_cam\.maps 'subcategories', now 'classes'"):
        run_stages_of(config_of(), copy, ["infer_cam"])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["features"], r"round_1.*no weights of round 1.*--stages=rounds"),
        (["cluster"], r"settings.json: there are no features.*--stages=features"),
        (["train"], r"train.npz: there are no subcategories.*--stages=cluster"),
        (["rounds"], r"classifier: there are no weights of a classifier.*--stages=classifier"),
    ],
)
def test_a_stage_names_the_one_that_is_missing(tmp_path, stages, message):
    with pytest.raises(RunError, match=message) as error:
        run_stages_of(config_of(), tmp_path, stages)
    assert "\n" not in str(error.value)


def test_a_round_that_has_not_ended_is_not_clustered(copy):
    shutil.rmtree(copy / "features")
    path = copy / "round_1/checkpoints/classifier/3/meta/metadata"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), "epochs": 0.5})))
    with pytest.raises(RunError, match=r"trained for 0.5 of 1 epochs; run the stage rounds first"):
        run_stages_of(config_of(), copy, ["features"])


def test_missing_and_damaged_features_are_named(copy):
    (copy / "sub_labels/train.npz").unlink()
    path = copy / "features/train/train_00007.npz"
    whole, (feature,) = path.read_bytes(), read_npz(path, "feature")
    path.unlink()
    with pytest.raises(RunError, match=r"features of image 'train_00007'; run the stage features first"):
        run_stages_of(config_of(), copy, ["cluster"])
    path.write_bytes(whole[:100])
    with pytest.raises(RunError, match=r"train_00007.npz: damaged; delete it"):
        run_stages_of(config_of(), copy, ["cluster"])
    np.savez(path, feature=np.full(128, np.nan, np.float32))
    with pytest.raises(RunError, match=r"features of 'train_00007' are not finite"):
        run_stages_of(config_of(), copy, ["cluster"])
    np.savez(path, feature=np.ones(7, np.float32))
    with pytest.raises(RunError, match=r"train_00007.npz has 7 numbers, but image 'train_00000' 128"):
        run_stages_of(config_of(), copy, ["cluster"])
    path.unlink()
    run_stages_of(config_of(), copy, ["features", "cluster"])
    np.testing.assert_array_equal(read_npz(path, "feature")[0], feature)


def test_sub_labels_of_another_list_are_refused(tmp_path, finished):
    list_file = tmp_path / "mine.txt"
    list_file.write_text("".join(f"train_{i:05d}\n" for i in range(16)))
    options = {"sc_cam__rounds": 1, "classifier_from": str(finished[0] / "classifier")}
    config = config_of(dataset__train_split=str(list_file), **options)
    run_stages_of(config, tmp_path / "run", ["features", "cluster"])
    list_file.write_text("".join(f"train_{i:05d}\n" for i in range(8, 24)))
    with pytest.raises(RunError, match=r"mine.npz holds subcategories made with list_sha256 '.*; delete it"):
        run_stages_of(config, tmp_path / "run", ["train"])
    with pytest.raises(RunError, match=r"holds features made with list_sha256"):
        run_stages_of(config, tmp_path / "run", ["features"])


def test_sub_labels_of_another_k_are_refused(copy):
    (copy / "config.json").unlink()
    with pytest.raises(RunError, match=r"train.npz holds subcategories made with k 2, now 3; delete it"):
        run_stages_of(config_of(sc_cam__k=3), copy, ["train"])
    with pytest.raises(RunError, match=r"train.npz holds subcategories made with k 2, now 3; delete it"):
        run_stages_of(config_of(sc_cam__k=3), copy, ["cluster"])


def test_damaged_sub_labels_are_named(copy):
    path = copy / "sub_labels/train.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError, match=r"train.npz: damaged; delete it and run the stage cluster again"):
        run_stages_of(config_of(), copy, ["train"])


def test_a_round_before_may_have_another_k_but_its_heads_are_not_this_networks(finished, tmp_path):
    """Only the trunk of the round before counts for features; CAMs need the very network."""
    before = str(finished[0])
    config = config_of(sc_cam__rounds=1, sc_cam__k=3, classifier_from=before)
    run_stages_of(config, tmp_path / "run", ["features", "cluster"])
    assert sub_labels(tmp_path / "run").labels.shape == (24, 18)
    config.cam.checkpoint = before
    with pytest.raises(CheckpointError, match=r"params/fc8_200/kernel is \(1, 1, 128, 12\) instead of"):
        run_stages_of(config, tmp_path / "run", ["infer_cam"])


def test_a_published_file_is_converted_and_gives_cams(tmp_path):
    config = config_of(sc_cam__k=10, model__blocks=(2, 2, 5, 2), model__width=1 / 64)
    variables = narrow_variables(make_method(config, 6))["classifier"]
    tensors = from_variables(variables, "sccam_k10")
    assert tensors["fc8_20.weight"].shape == (6, 64, 1, 1)
    config.cam.checkpoint = str(tf.write_zip(tmp_path / "k10_R3_resnet_cls_ep50.pth", tensors))
    run_stages_of(config, tmp_path / "run", ["infer_cam"])
    settings = json.loads((tmp_path / "run/cam/val/settings.json").read_text())
    assert settings["method"] == "sc_cam" and settings["sc_cam.maps"] == "classes"
    assert len(list((tmp_path / "run/cam/val").glob("*.npz"))) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sc_cam.k": 0}, r"config.sc_cam.k=0: must be greater than 0"),
        ({"sc_cam.k": -3}, r"config.sc_cam.k=-3: must be greater than 0"),
        ({"sc_cam.rounds": 0}, r"config.sc_cam.rounds=0: must be greater than 0"),
        ({"sc_cam.rounds": 4}, r"handoff_epochs=\(30, 40, 50\): must be an epoch for each of 4 round"),
        ({"sc_cam.handoff_epochs": (30, 2.5, 2)}, r"handoff_epochs=\(30, 2.5, 2\): must be an epoch"),
        ({"sc_cam.handoff_epochs": (30, -1, 2)}, r"handoff_epochs=\(30, -1, 2\): must be an epoch"),
        (
            {"sc_cam.maps": "subcategory"},
            r"sc_cam.maps='subcategory': must be one of 'classes', 'subcategories'",
        ),
        ({"cam.binarised_npy": True}, r"binarised_npy=True: only exported files.*export_npy=True"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    config = defaults()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_published_rounds_train_31_41_and_51_epochs(tmp_path):
    config = tiny("sc_cam_voc")
    config.total_epochs, config.sc_cam.rounds, config.sc_cam.handoff_epochs = 61, 3, (30, 40, 50)
    config.dataset.name = "shapes"
    run = open_run(config, tmp_path)
    assert [last_epoch(c) for c in (round_of(run, 1).config, round_of(run, 2).config, config)] == [31, 41, 51]
