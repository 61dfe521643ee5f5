"""What is checked before a run starts, and what a dry run says."""

import importlib.util
import math
import shutil

import jax
import pytest
from PIL import Image

from tests.helpers.runs import check_start, look_into, tiny
from tests.helpers.voc import make_voc, write_annotation
from wsss_jax.errors import ConfigError, DataError, RunError, UserError
from wsss_jax.refinement import native
from wsss_jax.runs import space
from wsss_jax.runs.checks import split_of
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, TRAIN_SPLIT, Facts
from wsss_jax.runs.dry_run import dry_run
from wsss_jax.runs.parts import checked_stages, parts
from wsss_jax.runs.runner import run_stages
from wsss_jax.systems import SYSTEMS
from wsss_jax.training.initial import variable_shapes
from wsss_jax.training.parameters import parameters


@pytest.fixture
def voc(tmp_path):
    """A devkit with images 1 to 6 in `train`, 7 and 8 in `val`, 9 to 14 with SBD's masks only."""
    return make_voc(tmp_path, num_train=6, num_val=2, num_aug=6)


@pytest.fixture
def folder(tmp_path):
    """Three images of one's own, without masks."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (40, 36), (i, 0, 0)).save(root / f"images/{i}.png")
    (root / "labels.csv").write_text("image,labels\n0,cat\n1,cat;dog\n2,\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def opened(root, workdir, name="cam_voc", **changes):
    changes = {"dataset__infer_split": "train", **changes}
    return look_into(tiny(name, dataset__root=str(root), **changes), workdir)


def facts_of(run, *stages):
    """What is known of the images of which the run itself makes maps."""
    return check_start(run, stages)[0].facts


def splits_of(run, *stages):
    """What the run and those within it train on, make maps of and score."""
    every = parts(run, checked_stages(run, stages))
    return [tuple(split_of(part, use) for use in (TRAIN_SPLIT, INFER_SPLIT, EVAL_SPLIT)) for part in every]


def opened_folder(root, workdir, **changes):
    splits = {f"dataset__{split}_split": "all" for split in ("train", "infer", "eval")}
    return opened(root, workdir, "cam_shapes", dataset__name="folder", **{**splits, **changes})


def test_sizes_and_numbers_of_classes_of_the_images_that_get_maps(voc, tmp_path):
    write_annotation(voc, "2007_000001", [])
    run = opened(voc, tmp_path / "run")
    (checked,) = check_start(run, None)
    assert checked.facts == {f"2007_{i:06d}": Facts((40, 60), (0, 2, 1, 2, 1, 2)[i - 1]) for i in range(1, 7)}
    assert facts_of(run, "report") == {}


def test_splits_that_stages_read(voc, tmp_path):
    run = opened(voc, tmp_path / "run", eval__every_epochs=1, dataset__eval_split="val")
    assert splits_of(run, "train") == [("train_aug", "", "val")]
    assert splits_of(run, "infer_cam") == splits_of(run, "crf") == [("", "train", "")]
    assert splits_of(run, "eval_pseudo") == [("", "train", "val")]
    run.config.eval.every_epochs = 0
    assert splits_of(run, "train") == [("train_aug", "", "")]


def test_splits_that_runs_within_the_run_read(voc, tmp_path):
    """The ordinary classifier's: what it trains on, and of what it makes and scores maps."""
    run = opened(voc, tmp_path / "run", "cse_voc", dataset__eval_split="val")
    run.config.classifier.eval = {"every_epochs": 0}
    assert splits_of(run, "classifier") == [("", "", ""), ("train_aug", "val", "val")]
    run.config.classifier_from = str(tmp_path)
    assert splits_of(run, "classifier") == [("", "", "")]


def damage_pictures(voc, numbers):
    for i in numbers:
        (voc / f"JPEGImages/2007_{i:06d}.jpg").write_bytes(b"no image")


def remove_mask(voc, image_id):
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        (voc / folder / f"{image_id}.png").unlink(missing_ok=True)


def remove_labels(voc):
    for i in range(1, 15):
        write_annotation(voc, f"2007_{i:06d}", [])


@pytest.mark.parametrize(
    ("spoil", "stages", "message"),
    [
        (lambda voc: damage_pictures(voc, [9]), "train", r"^1 of 12 images.*image '2007_000009'"),
        (lambda voc: damage_pictures(voc, range(1, 6)), "infer_cam", r"^5 of 6 .*000003'.*; and 2 more$"),
        (lambda voc: (voc / "Annotations/2007_000002.xml").unlink(), "infer_cam", r"^1 of 6 .*no annotation"),
        (
            lambda voc: remove_mask(voc, "2007_000003"),
            "train,eval_cam",
            r"^1 of the 6 .*'2007_000003'.*no mask",
        ),
        (remove_labels, "train", r"none of its 12 images shows a class"),
    ],
)
def test_unusable_data_are_counted_before_anything_is_written(voc, tmp_path, spoil, stages, message):
    spoil(voc)
    with pytest.raises(DataError, match=message) as error:
        run_stages(tiny("cam_voc", dataset__root=str(voc)), tmp_path / "run", stages.split(","), SYSTEMS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_maps_are_scored_on_images_that_have_maps(voc, tmp_path):
    run = opened(voc, tmp_path / "run", dataset__eval_split="val")
    with pytest.raises(
        ConfigError, match=r"eval_split='val': 2 of its 2.*'2007_000007'.*infer_split='train'"
    ):
        check_start(run, ("infer_cam", "eval_cam"))
    check_start(run, ("infer_cam",))


def test_a_folder_without_masks_or_labels(folder, tmp_path):
    run = opened_folder(folder, tmp_path / "run")
    assert [fact.classes for fact in facts_of(run, "train", "infer_cam").values()] == [1, 2, 0]
    with pytest.raises(DataError, match=r"3 of the 3 images of all.*no mask"):
        check_start(run, ("eval_cam",))
    (folder / "labels.csv").write_text("image,labels\n0,cat\n1,dog\n")
    run = opened_folder(folder, tmp_path / "run", cam__class_filter="predicted")
    assert [fact.classes for fact in facts_of(run, "infer_cam").values()] == [None] * 3
    with pytest.raises(DataError, match=r"1 of 3 images.*image '2': no line in .*labels.csv"):
        check_start(run, ("train",))


@pytest.mark.parametrize(
    ("changes", "stage", "message"),
    [
        ({"init_from": "none.pth"}, "train", r"init_from='none.pth'.*docs/checkpoints.md"),
        ({"classifier_from": "none.pth"}, "classifier", r"classifier_from='none.pth'"),
        ({"cam__checkpoint": "none/3"}, "infer_cam", r"cam.checkpoint='none/3'"),
        ({"walk__checkpoint": "none.pth"}, "random_walk", r"walk.checkpoint='none.pth'"),
        ({"affinity__init_from": "a.pth"}, "train_affinity", r"affinity.init_from='a.pth'"),
    ],
)
def test_missing_weights_show_before_the_first_stage(tmp_path, changes, stage, message):
    run = look_into(tiny("cse_shapes", **changes), tmp_path)
    with pytest.raises(ConfigError, match=message):
        check_start(run, (stage,))
    check_start(run, ("report",))


def test_weights_of_the_nested_classifier_show_too(tmp_path):
    config = tiny("cse_shapes")
    config.classifier.init_from = "none.pth"
    with pytest.raises(ConfigError, match=r"config.classifier.init_from='none.pth'"):
        check_start(look_into(config, tmp_path), ("classifier",))


def test_optional_packages_show_before_the_first_stage(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("tensorboardX", "pydensecrf") else find(name),
    )
    assert not native.is_installed()
    run = look_into(tiny("cam_shapes", log__tensorboard=True, crf__backend="pydensecrf"), tmp_path)
    with pytest.raises(ConfigError, match=r"tensorboardX; pip install 'wsss-jax\[tensorboard\]'"):
        check_start(run, ("train",))
    with pytest.raises(ConfigError, match="pydensecrf"):
        check_start(run, ("infer_cam", "crf"))
    check_start(run, ("infer_cam",))


def room(run, *stages):
    return space.needed(check_start(run, stages))


def test_room_is_that_of_the_files_to_come(voc, tmp_path):
    run = opened(voc, tmp_path / "run", crf__alphas=(4.0, 32.0), affinity__init_from="trained")
    area, planes = 40 * 60 * 4, 1 + 2 + 1 + 2 + 1 + 2
    assert room(run, "infer_cam") == {"CAMs": planes * area}
    assert room(run, "crf") == {"CRF scores": 2 * (planes + 6) * area}
    run.config.cam.storage = run.config.crf.storage = "float16"
    assert room(run, "infer_cam") == {"CAMs": planes * area // 2}
    assert room(run, "crf") == {"CRF scores": (planes + 6) * area}
    run.config.cam.storage = "float32"
    for image_id in ("2007_000001", "2007_000002"):
        path = run.layout.cam("train", image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert room(run, "infer_cam") == {"CAMs": (planes - 3) * area}
    assert room(run, "report") == {}
    run.config.cam.class_filter = "all"
    assert room(run, "infer_cam") == {"CAMs": 20 * 4 * area}


def test_room_of_checkpoints_is_three_times_weights_and_momentum(tmp_path):
    run = look_into(tiny("cam_shapes"), tmp_path)
    found = room(run, "train")
    shapes = variable_shapes(run.method.networks["classifier"])
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert numbers > 10_000
    assert found == {"checkpoints": 3 * 2 * 4 * numbers}


def test_a_disk_without_room_refuses_the_run(voc, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000))
    with pytest.raises(
        RunError, match=r"will write 0\.1 MB \(CAMs 0\.1 MB\), and 0\.1 MB are free; make room"
    ):
        run_stages(tiny("cam_voc", dataset__root=str(voc)), tmp_path / "run", ("infer_cam",), SYSTEMS)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(voc, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    config = tiny("cam_voc", dataset__root=str(voc), model__frozen_blocks=("conv1a",))
    dry_run(config, tmp_path / "run", ("train", "infer_cam", "eval_cam"), SYSTEMS)
    assert sorted(tmp_path.rglob("*")) == before
    said = capsys.readouterr().out
    for part in (
        "  total_epochs = 2\n",
        "voc12: 20 classes: aeroplane, ",
        "  train on train_aug: 12 images\n  maps of train: 6 images\n  score train: 6 images\n",
        "  0 cpu cpu\n",
        "  classifier/params/trunk/conv1a/kernel  3 x 3 x 3 x 2  frozen\n",
        "  classifier/params/fc8/kernel  1 x 1 x 128 x 20  new\n",
        "CAMs 0.1 MB",
        "== stages\n  train infer_cam eval_cam\n",
    ):
        assert part in said, said


def test_parameters_add_up(tmp_path):
    run = look_into(tiny("cam_shapes", model__frozen_blocks=("conv1a",)), tmp_path)
    *lines, total = parameters(run.method)
    rows = [line.split("  ") for line in lines]
    counts = [math.prod(map(int, shape.split(" x "))) for _, shape, _ in rows]
    learning = sum(count for count, row in zip(counts, rows, strict=True) if row[2] != "frozen")
    assert total == f"classifier: {sum(counts):,} numbers, of which {learning:,} learn"
    assert {row[2] for row in rows} == {"frozen", "pretrained", "new"}
    assert all(row[2] == "frozen" for row in rows if "batch_stats" in row[0])


def test_a_dry_run_refuses_what_the_run_would(folder, tmp_path):
    config = opened_folder(folder, tmp_path / "run").config
    with pytest.raises(UserError, match="no mask"):
        dry_run(config, tmp_path / "run", None, SYSTEMS)
    assert not (tmp_path / "run").exists()
