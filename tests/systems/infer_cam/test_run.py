"""InferCam's stages: what they write, need and refuse, and published networks through them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks.plain_response import PlainResponse
from tests.helpers.golden import names, state_dict
from tests.helpers.runs import open_run, run_stages_of, tiny
from tests.helpers.torch_files import write_zip
from wsss_jax import interrupt
from wsss_jax.convert.destination import write
from wsss_jax.convert.source import read_source
from wsss_jax.errors import CheckpointError, ConfigError, DataError, Interrupted, RunError
from wsss_jax.stages.networks import result_variables
from wsss_jax.systems.infer_cam.base_classifier import base_run
from wsss_jax.systems.infer_cam.crops import split_boxes
from wsss_jax.systems.infer_cam.eraser import CropPlan
from wsss_jax.weights import to_variables
from wsss_jax.weights.reading import read_tensors

IDS = [f"val_{i:05d}" for i in range(10)]


def config_of(**changes):
    return tiny("infer_cam_shapes", **{"total_epochs": 1, "infer_cam__max_buckets": 1, **changes})


def read(folder):
    found = {}
    for path in sorted((folder / "cam/val").glob("*.npz")):
        with np.load(path) as file:
            found[path.stem] = (file["keys"], file["cam"])
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("infer_cam")
    run_stages_of(config_of(), folder, None)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_maps_of_both_are_there_and_scored(finished):
    plain, ours = read(finished / "classifier"), read(finished)
    assert list(plain) == list(ours) == IDS
    for image_id, (keys, cam) in ours.items():
        np.testing.assert_array_equal(keys, plain[image_id][0])
        assert cam.shape == plain[image_id][1].shape and cam.dtype == np.float32
        assert cam.min() >= 0 and cam.max() <= 1
    scores = [
        json.loads((folder / "metrics/eval_cam_val.json").read_text())
        for folder in (finished, finished / "classifier")
    ]
    assert [m["method"] for m in scores] == ["infer_cam", "cam"]
    assert scores[0]["weights_sha256"] == scores[1]["weights_sha256"]
    page = (finished / "report/index.html").read_text()
    assert "InferCam" in page and "ordinary classifier" in page


def test_maps_are_those_of_the_plain_loop(finished):
    run = open_run(config_of(), finished)
    variables, _ = result_variables(base_run(run))
    loop, plain, ours = (
        PlainResponse(run.method, variables, (1.0,)),
        read(finished / "classifier"),
        read(finished),
    )
    for image_id in IDS[:2]:
        keys, cam = plain[image_id]
        boxes = split_boxes(cam, run.method.split)
        plan = CropPlan(image_id, cam.shape[1:], tuple(keys.tolist()), boxes)
        wanted, _ = loop(run.source.image(image_id), plan)
        np.testing.assert_allclose(ours[image_id][1], wanted, atol=1e-4)


def test_parts_are_written_only_when_asked_for(copy):
    assert not (copy / "crops").exists()
    run_stages_of(config_of(), copy, ["split"])
    written = sorted(path.name for path in (copy / "crops/val").iterdir())
    assert written == [f"{image_id}_{number}.jpg" for image_id in IDS for number in range(1, 5)]
    for image_id, (_, cam) in read(copy / "classifier").items():
        for number, box in enumerate(split_boxes(cam, open_run(config_of(), copy).method.split), start=1):
            with Image.open(copy / f"crops/val/{image_id}_{number}.jpg") as picture:
                assert (picture.height, picture.width) == box.size and picture.format == "JPEG"
    before = (copy / f"crops/val/{IDS[0]}_1.jpg").stat().st_mtime_ns
    run_stages_of(config_of(), copy, ["split"])
    assert (copy / f"crops/val/{IDS[0]}_1.jpg").stat().st_mtime_ns == before


def test_parts_go_through_jpeg_files_in_memory_or_in_a_folder(copy, finished):
    """Files of the stage `split` (the authors' `--split_path`) give the same maps."""
    run_stages_of(config_of(infer_cam__jpeg_quality=95), copy, ["split"])
    shutil.rmtree(copy / "cam")
    run_stages_of(config_of(infer_cam__jpeg_quality=95), copy, ["infer_cam", "eval_cam"])
    in_memory = read(copy)
    shutil.rmtree(copy / "cam")
    folder = str(copy / "crops/val")
    run_stages_of(config_of(infer_cam__split_path=folder), copy, ["infer_cam"])
    for image_id, (_, cam) in read(copy).items():
        np.testing.assert_allclose(cam, in_memory[image_id][1], atol=1e-5)
    differences = [np.abs(in_memory[i][1] - cam).mean() for i, (_, cam) in read(finished).items()]
    assert min(differences) > 1e-5
    with pytest.raises(RunError, match=r"CAMs made with infer_cam .*'split_path': ''"):
        run_stages_of(
            config_of(infer_cam__split_path=folder), shutil.copytree(finished, copy / "n"), ["infer_cam"]
        )


def test_a_missing_part_is_named(copy):
    shutil.rmtree(copy / "cam")
    with pytest.raises(DataError, match=r"nowhere/.*_1.jpg: there is no such file; infer_cam.split_path"):
        run_stages_of(config_of(infer_cam__split_path="nowhere"), copy, ["infer_cam"])


def test_only_missing_pictures_are_computed(copy, finished):
    for image_id in IDS[::3]:
        (copy / f"cam/val/{image_id}.npz").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (copy / "cam/val").glob("*.npz")}
    run_stages_of(config_of(), copy, ["infer_cam"])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for image_id, (keys, cam) in read(finished).items():
        np.testing.assert_array_equal(read(copy)[image_id][0], keys)
        np.testing.assert_allclose(read(copy)[image_id][1], cam, atol=1e-5)


def test_a_stop_in_the_middle_keeps_what_is_written(copy, finished, monkeypatch):
    shutil.rmtree(copy / "cam")

    class AfterAWhile:
        looks = 0

        def __bool__(self):
            self.looks += 1
            return self.looks > len(IDS) + 3  # ten looks while crops are planned, then one for each picture

    monkeypatch.setattr(interrupt, "_requested", AfterAWhile())
    with pytest.raises(Interrupted, match=r"infer_cam has written \d of 10 images; give the same command"):
        run_stages_of(config_of(), copy, ["infer_cam"])
    assert 1 <= len(read(copy)) < len(IDS)
    monkeypatch.setattr(interrupt, "_requested", False)
    run_stages_of(config_of(), copy, ["infer_cam"])
    for image_id, (_, cam) in read(finished).items():
        np.testing.assert_allclose(read(copy)[image_id][1], cam, atol=1e-5)


def test_heat_maps_of_every_class(copy):
    path = copy / f"cam/val/{IDS[0]}.npz"
    path.unlink()
    run_stages_of(config_of(cam__heat_maps=True), copy, ["infer_cam"])
    source = open_run(config_of(), copy).source
    wanted = {f"{IDS[0]}_{source.classes[key]}.png" for key in read(copy)[IDS[0]][0]}
    assert {path.name for path in (copy / "heat/val").iterdir()} == wanted
    with Image.open(copy / "heat/val" / min(wanted)) as picture:
        assert (picture.height, picture.width) == source.size(IDS[0]) and picture.mode == "RGB"
        assert np.asarray(picture).std() > 0


def test_predicted_classes_are_those_of_the_plain_maps(tmp_path, finished):
    config = config_of(cam__class_filter="predicted", classifier_from=str(finished / "classifier"))
    run_stages_of(config, tmp_path, ["classifier", "infer_cam"])
    plain, ours = read(tmp_path / "classifier"), read(tmp_path)
    for image_id in IDS:
        np.testing.assert_array_equal(ours[image_id][0], plain[image_id][0])
    assert not (tmp_path / "classifier/checkpoints").exists()  # nothing was trained


@pytest.mark.parametrize("stage", ["split", "infer_cam", "eval_cam"])
def test_stages_say_that_the_plain_maps_are_missing(tmp_path, stage):
    missing = "infer_cam" if stage == "eval_cam" else "classifier"
    with pytest.raises(RunError, match=rf"run the stage {missing} first"):
        run_stages_of(config_of(), tmp_path, [stage])


def test_a_damaged_file_of_plain_maps_is_named(copy):
    path = copy / f"classifier/cam/val/{IDS[4]}.npz"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(
        DataError, match=rf"classifier/cam/val/{IDS[4]}.npz is damaged.*stage classifier again"
    ):
        run_stages_of(config_of(), copy, ["infer_cam"])


def test_maps_of_another_rule_are_not_mixed_but_buckets_may_change(copy):
    with pytest.raises(
        RunError, match=r"cam/val holds CAMs made with infer_cam .*'iterations': 5.*'iterations': 2"
    ):
        run_stages_of(config_of(infer_cam__iterations=2), copy, ["infer_cam"])
    run_stages_of(config_of(infer_cam__max_buckets=2), copy, ["infer_cam"])


def test_maps_of_other_scales_are_not_mixed(copy):
    with pytest.raises(RunError, match=r"classifier/cam/val holds CAMs made with scales \[1.0\], now"):
        run_stages_of(config_of(cam__scales=(1.0, 2.0)), copy, ["infer_cam"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"infer_cam__network": "seam"}, r"network='seam'.*--config.classifier_from"),
        ({"infer_cam__network": "infer_cam"}, r"infer_cam.network='infer_cam': must be one of 'cam'"),
        ({"infer_cam__jpeg_quality": 101}, r"infer_cam.jpeg_quality=101: must be 1 to 100, 0 for none"),
        ({"infer_cam__jpeg_quality": -1}, r"infer_cam.jpeg_quality=-1: must be 1 to 100, 0 for none"),
        ({"infer_cam__iterations": 0}, r"infer_cam.iterations=0.*greater than 0"),
        ({"infer_cam__margins": (10, -1)}, r"infer_cam.margins=\(10, -1\): must be"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        run_stages_of(config_of(**changes), tmp_path, ["classifier"])
    assert "\n" not in str(error.value)


def published_seam(folder):
    """A state dict of SEAM's names with 1/32 of its channels and six classes and background."""
    shapes = names("infercam_seam", divide=32) | {
        "fc8.weight": (7, 128, 1, 1),
        "f8_3.weight": (2, 16, 1, 1),
        "f8_4.weight": (4, 32, 1, 1),
        "f9.weight": (6, 9, 1, 1),
    }
    return write_zip(folder / "resnet38_SEAM.pth", state_dict("dev", shapes))


def config_with(network, weights):
    config = config_of(infer_cam__network=network, classifier_from=str(weights))
    config.model.blocks = (2, 2, 5, 2)  # all of them, as the published names have them
    config.dataset.shapes.num_val = 2
    return config


@pytest.mark.slow
def test_seams_file_converted_or_not_gives_the_maps_of_its_network(tmp_path):
    weights = published_seam(tmp_path)
    converted = tmp_path / "converted"
    write(read_source(str(weights), None), str(converted), "orbax")
    for name, path in (("file", weights), ("folder", converted)):
        run_stages_of(config_with("seam", path), tmp_path / name, ["classifier", "infer_cam"])
    from_file, from_folder = read(tmp_path / "file"), read(tmp_path / "folder")
    assert list(from_file) == list(from_folder) == IDS[:2]
    variables = {"seam": to_variables(read_tensors(weights), "infercam_seam")}
    run = open_run(config_with("seam", weights), tmp_path / "file")
    loop = PlainResponse(run.method, variables, (1.0,))
    for image_id, (keys, cam) in from_file.items():
        np.testing.assert_array_equal(from_folder[image_id][1], cam)
        boxes = split_boxes(read(tmp_path / "file/classifier")[image_id][1], run.method.split)
        plan = CropPlan(image_id, cam.shape[1:], tuple(keys.tolist()), boxes)
        np.testing.assert_allclose(cam, loop(run.source.image(image_id), plan)[0], atol=1e-4)


@pytest.mark.slow
def test_of_sc_cams_file_the_head_of_the_classes_is_asked(tmp_path):
    shapes = names("sccam_k10", divide=32) | {
        "fc8_20.weight": (6, 128, 1, 1),
        "fc8_200.weight": (60, 128, 1, 1),
    }
    theirs = state_dict("dev", shapes)
    plain = {name.replace("fc8_20.", "fc8."): x for name, x in theirs.items() if "fc8_200" not in name}
    for network, tensors in (("sc_cam", theirs), ("cam", plain)):
        weights = write_zip(tmp_path / f"{network}.pth", tensors)
        run_stages_of(config_with(network, weights), tmp_path / network, ["classifier", "infer_cam"])
    for image_id, (keys, cam) in read(tmp_path / "cam").items():
        np.testing.assert_array_equal(read(tmp_path / "sc_cam")[image_id][0], keys)
        np.testing.assert_allclose(read(tmp_path / "sc_cam")[image_id][1], cam, atol=1e-5)


def test_a_file_without_seams_heads_is_refused(tmp_path):
    shapes = names("resnet38_cls", divide=32) | {"fc8.weight": (6, 128, 1, 1)}
    weights = write_zip(tmp_path / "res38_cls.pth", state_dict("dev", shapes))
    with pytest.raises(CheckpointError, match=r"f8_3"):
        run_stages_of(config_with("seam", weights), tmp_path / "run", ["classifier"])
