"""Stages train_seg, infer_seg and eval_seg: what they write, how they go on, what they refuse."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.runs import load, open_run, run_stages_of, tiny
from wsss_jax import interrupt
from wsss_jax.data import make_source
from wsss_jax.errors import ConfigError, DataError, Interrupted, RunError
from wsss_jax.evaluation import ConfusionMatrix, mean_iou, pixel_accuracy
from wsss_jax.stages.train_seg import start_of
from wsss_jax.systems import SYSTEMS
from wsss_jax.training.checkpoints import restore, steps

NARROW = {
    "deeplab_v2__width": 1 / 32,
    "segmentation__crop": 32,
    "segmentation__total_steps": 4,
    "segmentation__batch_size": 8,
    "segmentation__group_size": 4,
    "segmentation__max_buckets": 1,
    "dataset__shapes__num_train": 22,
}
STAGES = ["train_seg", "infer_seg", "eval_seg"]


def config(masks="true", **changes):
    changes = {"segmentation__crf": False, "checkpoint__every_steps": 1, **NARROW, **changes}
    return tiny("deeplab_v2_shapes", masks=str(masks), **changes)


SOURCE = make_source("shapes", **config().dataset.shapes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on the true masks; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    run_stages_of(config(), folder, None)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def metrics_of(folder, stage="eval_seg"):
    return json.loads((folder / f"metrics/{stage}_val.json").read_text())


def labels(folder, image_id, kind="seg"):
    return np.asarray(Image.open(folder / kind / "val" / f"{image_id}.png"))


def test_scores_are_those_of_the_files(finished):
    confusion = ConfusionMatrix(num_classes=6)
    for image_id in SOURCE.ids("val"):
        confusion.add(labels(finished, image_id), SOURCE.mask(image_id))
    found = metrics_of(finished)
    assert found["fixed"]["miou"] == pytest.approx(100 * mean_iou(confusion.counts, "truth"))
    assert found["pixel_accuracy"] == pytest.approx(100 * pixel_accuracy(confusion.counts))
    assert found["trained_on"]["DeepLab-v2"]["split"] == "train with true masks (full supervision)"


def test_every_score_line_says_what_it_started_from_and_was_trained_on(finished):
    log = (finished / "logs/log.txt").read_text()
    assert re.search(r"train_seg: 22 masks of the true masks of shapes: background \d\d\.\d\d %, cater", log)
    (line,) = re.findall(r"eval_seg val: mIoU .*", log)
    assert "started from scratch" in line and "DeepLab-v2 trained on train with true masks" in line


def test_the_last_weights_label_the_images(finished):
    folder = finished / "checkpoints/deeplab_v2"
    saved = steps(folder)
    assert saved[-1] == 4
    last = restore(folder / "4")
    assert metrics_of(finished)["weights_sha256"] == last.meta["digest"]["variables"]
    first = restore(folder / str(saved[0])).variables["params"]
    changed = np.abs(first["aspp"]["c0"]["kernel"] - last.variables["params"]["aspp"]["c0"]["kernel"]).max()
    assert changed > 1e-5


def test_a_report_shows_the_network(finished):
    page = (finished / "report/index.html").read_text()
    assert "ResNet-101, width 0.03125" in page and "segmentation network" in page


def test_done_is_done_and_what_is_missing_is_made_again(copy, capsys):
    image_id = SOURCE.ids("val")[0]
    before = labels(copy, image_id)
    (copy / f"seg/val/{image_id}.png").unlink()
    run_stages_of(config(), copy, STAGES)
    out = capsys.readouterr().out
    assert "train_seg: done already, 4 steps" in out
    np.testing.assert_array_equal(labels(copy, image_id), before)


def test_stopped_it_ends_the_same(finished, tmp_path, monkeypatch):
    looks = iter([False] * 24 + [True] * 9)
    stop = type("Stop", (), {"__bool__": lambda self: next(looks, True)})()
    monkeypatch.setattr(interrupt, "_requested", stop)
    with pytest.raises(Interrupted):
        run_stages_of(config(), tmp_path, ["train_seg"])
    monkeypatch.setattr(interrupt, "_requested", False)
    assert 0 < steps(tmp_path / "checkpoints/deeplab_v2")[-1] < 4
    run_stages_of(config(), tmp_path, ["train_seg"])
    wanted, found = (
        restore(folder / "checkpoints/deeplab_v2/4").variables["params"]["aspp"]["c3"]["kernel"]
        for folder in (finished, tmp_path)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_folder_of_masks_and_a_crf(tmp_path):
    """Anybody's masks, without image-level labels being asked for; their score beside the network's."""
    masks = tmp_path / "masks"
    for image_id in SOURCE.ids("train"):
        (masks / f"{image_id}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(SOURCE.mask(image_id) == 3, 0, SOURCE.mask(image_id))).save(
            masks / f"{image_id}.png"
        )
    changes = {"segmentation__crf": True, "crf__backend": "jax", "crf__max_buckets": 1}
    run_stages_of(config(masks, **changes), tmp_path / "run", STAGES)
    found, refined = metrics_of(tmp_path / "run"), metrics_of(tmp_path / "run", "eval_seg_crf")
    assert found["masks"]["images"] == 22 and 50 < found["masks"]["miou"] < 100
    assert refined["crf"].startswith("10 iterations, Gaussian w 3 sxy 1, bilateral w 4 sxy 67 srgb 3, of the")
    ids = SOURCE.ids("val")
    assert any((labels(tmp_path / "run", i) != labels(tmp_path / "run", i, "seg_crf")).any() for i in ids)
    (masks / f"{SOURCE.ids('train')[0]}.png").unlink()
    with pytest.raises(DataError, match=r"1 of 22 images have no mask there"):
        run_stages_of(config(masks), tmp_path / "other", STAGES)


def test_other_masks_need_another_folder(copy, tmp_path):
    masks = tmp_path / "masks"
    for image_id in SOURCE.ids("train"):
        (masks / f"{image_id}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(SOURCE.mask(image_id) * np.uint8(SOURCE.mask(image_id) < 6)).save(
            masks / f"{image_id}.png"
        )
    with pytest.raises(RunError, match="holds a segmentation network made with masks_sha256"):
        run_stages_of(config(masks), copy, ["train_seg"])


def test_a_run_without_pseudo_masks_is_told_what_to_do(tmp_path):
    settings = tiny("cam_shapes", **NARROW)
    with pytest.raises(RunError, match="there are no pseudo masks of val; make them"):
        run_stages_of(settings, tmp_path, ["train_seg"])


@pytest.mark.parametrize("name", sorted(SYSTEMS.systems.keys() - {"deeplab_v2"}))
def test_the_stages_follow_every_system(name):
    from wsss_jax.runs.parts import checked_stages

    class OfSystem:
        system, registry = SYSTEMS.system(name), SYSTEMS
        config = load("cam_shapes")

    assert [stage.name for stage in checked_stages(OfSystem, STAGES)] == STAGES
    assert not {stage.name for stage in checked_stages(OfSystem, None)} & set(STAGES)


def test_pseudo_masks_of_the_run_itself(tmp_path):
    """As `random_walk` leaves them."""
    settings = tiny("cam_shapes", **{**NARROW, "segmentation__crf": False, "dataset__infer_split": "train"})
    for image_id in SOURCE.ids("train"):
        path = tmp_path / "pseudo/train" / f"{image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(SOURCE.mask(image_id)).save(path)
    run_stages_of(settings, tmp_path, STAGES)
    found = metrics_of(tmp_path)
    assert found["method"] == "cam" and found["masks"]["miou"] == pytest.approx(100)
    assert restore(tmp_path / "checkpoints/deeplab_v2/4").meta["refines"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation__network": "cam"}, "must be one of deeplab_v2"),
        ({"segmentation__group_size": 3}, "must be a multiple of segmentation.group_size, 3"),
        ({"masks": "/nowhere"}, "there is no such folder"),
        (
            {"segmentation__init_from": "nowhere.pth"},
            "segmentation.init_from='nowhere.pth': there is no such",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(tmp_path, changes, message):
    from wsss_jax.runs import runner

    with pytest.raises(ConfigError, match=re.escape(message)):
        runner.check_before(config(**changes), tmp_path / "run", STAGES, SYSTEMS)
    assert not (tmp_path / "run").exists()


def test_a_start_that_has_seen_masks_says_so(tmp_path):
    from tests.helpers.torch_files import write_zip

    rows = {"coco.pth": 91, "imagenet.pth": 1000}
    for name, count in rows.items():
        write_zip(tmp_path / name, {"fc.weight": np.zeros((count, 2, 1, 1), np.float32)})
    run = open_run(config(), tmp_path / "run")
    run.config.segmentation.init_from = str(tmp_path / "imagenet.pth")
    assert start_of(run) == "imagenet.pth"
    run.config.segmentation.init_from = str(tmp_path / "coco.pth")
    assert start_of(run) == "coco.pth (COCO's masks: extra supervision)"
    run.config.segmentation.init_from = str(tmp_path / "deeplabv1_resnet101-coco")
    assert start_of(run).endswith("extra supervision)")


def test_the_run_shows_images_of_ones_own(finished):
    """By its folder, with nothing else of the run."""
    from wsss_jax.segment import SegmentModel

    model = SegmentModel.load(finished)
    image_id = SOURCE.ids("val")[0]
    found = model(SOURCE.image(image_id)).labels
    assert (found == labels(finished, image_id)).mean() > 0.99
    assert model.classes == SOURCE.classes and "started from scratch" in model.about
