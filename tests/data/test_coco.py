import io
import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.golden import GOLDEN
from tests.helpers.runs import load, run_stages_of, tiny
from wsss_jax import interrupt, prepare
from wsss_jax.config import flatten, resolved
from wsss_jax.data import coco_annotations, make_source
from wsss_jax.data.coco import CATEGORY_IDS, CLASSES, Coco, index_path
from wsss_jax.data.coco_annotations import make_index, paint, read_annotations, region
from wsss_jax.errors import ConfigError, DataError, Interrupted

SMALL = GOLDEN / "coco_small.json"
PERSON = {"id": 7, "image_id": 9, "category_id": 1, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9]]}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "coco.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory, golden):
    """COCO's layout with noise for images: grey, CMYK and RGB files in turn."""
    root = tmp_path_factory.mktemp("coco")
    for folder in ("train2014", "annotations"):
        (root / folder).mkdir()
    shutil.copy(SMALL, root / "annotations" / "instances_train2014.json")
    rng = np.random.default_rng(0)
    for place, (number, name) in enumerate(zip(golden["ids"], golden["names"], strict=True)):
        pixels = rng.integers(0, 256, (*golden[f"mask/{number}"].shape, 3), np.uint8)
        image = Image.fromarray(pixels).convert(("L", "CMYK", "RGB")[place % 3])
        image.save(root / "train2014" / f"{name}.jpg")
    return root


@pytest.fixture(scope="module")
def prepared(extracted, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared") / "coco"
    shutil.copytree(extracted, root)
    prepare.prepare_coco(root)
    return root


@pytest.fixture
def root(extracted, tmp_path):
    return shutil.copytree(extracted, tmp_path / "coco")


def change(root, **parts):
    """Puts other parts into the annotations."""
    path = root / "annotations" / "instances_train2014.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | parts))
    return path


def content(root):
    return json.loads((root / "annotations" / "instances_train2014.json").read_text())


def test_classes_and_category_ids(golden):
    assert len(CLASSES) == len(set(CLASSES)) == 80
    assert list(CATEGORY_IDS) == golden["category_of_class"].tolist()
    assert (CLASSES[0], CLASSES[CATEGORY_IDS.index(13)], CLASSES[-1]) == ("person", "stop sign", "toothbrush")


def test_labels_and_masks_are_those_of_pycocotools(golden):
    images = read_annotations(SMALL)
    index = make_index(images)
    assert index.ids.tolist() == golden["names"].tolist()
    np.testing.assert_array_equal(index.labels, golden["labels"])
    for number, image in zip(golden["ids"], images, strict=True):
        mask, problems = paint(image)
        assert problems == []
        np.testing.assert_array_equal(mask, golden[f"mask/{number}"])
        for annotation in image.annotations:
            found = region(annotation["segmentation"], image.size)
            np.testing.assert_array_equal(np.packbits(found), golden[f"annotation/{annotation['id']}"])


def test_a_prepared_root_is_a_source(prepared, golden):
    source = make_source("coco14", prepared)
    ids = source.ids("train")
    assert list(ids) == golden["names"].tolist()
    labelled = [name for name, row in zip(ids, golden["labels"], strict=True) if row.any()]
    assert list(source.ids("train_labelled")) == labelled and len(labelled) == len(ids) - 1
    for number, name, row in zip(golden["ids"], ids, golden["labels"], strict=True):
        mask = golden[f"mask/{number}"]
        np.testing.assert_array_equal(source.labels(name), row.astype(np.float32))
        np.testing.assert_array_equal(source.mask(name), mask)
        assert source.has_mask(name) and source.size(name) == mask.shape
        assert source.image(name).shape == (*mask.shape, 3)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and copy.size(ids[0]) == source.size(ids[0])


def test_lists_hold_ids_or_numbers(prepared, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("404\nCOCO_train2014_000000000009\n")
    found = Coco(str(prepared)).ids(str(path))
    assert found == ("COCO_train2014_000000000404", "COCO_train2014_000000000009")
    for line in ("405", "2007_000032"):
        path.write_text(f"404\n{line}\n")
        with pytest.raises(DataError, match=f"line 2: '{line}' is no image"):
            Coco(str(prepared)).ids(str(path))


@pytest.mark.parametrize("workers", [0, 1])
def test_preparing_goes_on_where_it_was(root, capsys, monkeypatch, workers):
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(Interrupted, match="1 of the 7 masks"):
        prepare.prepare_coco(root)
    assert not index_path(root, "train2014").exists()  # which would say that it is whole
    monkeypatch.setattr(interrupt, "_requested", False)
    masks = sorted((root / "SegmentationClass/train2014").glob("*.png"))
    masks[0].write_bytes(masks[0].read_bytes()[:30])
    kept = {path: path.stat().st_mtime_ns for path in masks[1:]}
    prepare.prepare_coco(root, workers)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    source = Coco(str(root))
    assert all(source.mask(i).shape == source.size(i) for i in source.ids("train"))
    assert "7 images, 1 of them without a class; ready" in capsys.readouterr().out


def broken(root):
    path = root / "annotations" / "instances_train2014.json"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken, "not a whole instances file"),
        (lambda root: change(root, images=[{}]), "not a whole instances file"),
        (lambda root: change(root, images=3), "not a whole instances file"),
        (
            lambda root: change(root, annotations=[PERSON | {"category_id": 12}]),
            "annotation 7 has category 12",
        ),
        (
            lambda root: change(root, annotations=[PERSON | {"image_id": 8}]),
            "of image 8, which the file does",
        ),
        (lambda root: change(root, images=content(root)["images"] * 2), "image 139 is listed twice"),
        (
            lambda root: change(
                root, annotations=[], images=[{"id": 1, "file_name": "../../x_y_1", "height": 1}]
            ),
            "not a whole instances file",
        ),
        (lambda root: shutil.rmtree(root / "annotations"), "there is neither"),
    ],
)
def test_annotations_that_cannot_be_used_end_it_in_one_line(root, damage, message, capsys):
    damage(root)
    with pytest.raises(SystemExit) as end:
        prepare.main(["coco14", str(root), "--workers=0"])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and line.startswith("Error: ") and message in line


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 9, 9]], "three points"),
        ([[1, 1, 9, 9, 3]], "three points"),
        ([], "three points"),
        ({"size": [3, 3], "counts": [9]}, "of size"),
        ({"size": [64, 48], "counts": [64 * 48 + 1]}, "add up to"),
        ({"counts": [9]}, "size"),
        (None, "annotation 7"),
    ],
)
def test_an_annotation_that_cannot_be_painted_is_told_and_left_out(root, capsys, segmentation, message):
    square = {**PERSON, "id": 8, "category_id": 2, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    change(root, annotations=[square, PERSON | {"segmentation": segmentation}])
    prepare.prepare_coco(root)
    warning = next(line for line in capsys.readouterr().err.splitlines() if "annotation 7" in line)
    assert message in warning and "COCO_train2014_000000000009" in warning
    source = Coco(str(root))
    assert np.flatnonzero(source.labels("COCO_train2014_000000000009")).tolist() == [0, 1]
    assert np.unique(source.mask("COCO_train2014_000000000009")).tolist() == [0, 2]
    assert np.unique(source.mask("COCO_train2014_000000000025")).tolist() == [0]


def test_an_annotation_smaller_than_a_pixel_paints_nothing(root):
    change(root, annotations=[PERSON | {"segmentation": [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]}])
    prepare.prepare_coco(root)
    assert not Coco(str(root)).mask("COCO_train2014_000000000009").any()


def test_images_and_annotations_that_do_not_belong_together(root, capsys, tmp_path):
    folder = root / "train2014"
    (folder / "COCO_train2014_000000000009.jpg").rename(folder / "COCO_train2014_000000000010.jpg")
    Image.new("RGB", (9, 9)).save(folder / "COCO_train2014_000000000025.jpg")
    (folder / "COCO_train2014_000000000030.jpg").write_bytes(b"no image")
    prepare.prepare_coco(root)
    said = capsys.readouterr().err
    assert "1 listed images are not in" in said and "1 files of" in said and "00010" in said
    assert "is (9, 9), its annotations are of (72, 40)" in said and "cannot be decoded" in said
    source = Coco(str(root))
    assert not source.has_mask("COCO_train2014_000000000025")
    with pytest.raises(DataError, match="1 of 7 images, the first 'COCO_train2014_000000000009'"):
        source.ids("train")
    path = tmp_path / "mine.txt"
    path.write_text("36\n")
    assert source.ids(str(path)) == ("COCO_train2014_000000000036",)


def test_a_root_that_is_not_prepared_names_the_command(root):
    source = Coco(str(root))
    for question in (lambda: source.ids("train"), lambda: source.size("x"), lambda: source.ids("val")):
        with pytest.raises(DataError, match=r"python -m wsss_jax\.prepare coco14"):
            question()
    with pytest.raises(DataError, match="neither a folder train2014 nor val2014"):
        Coco(str(root / "train2014"))


def test_a_damaged_index_says_so(prepared, tmp_path):
    root = shutil.copytree(prepared, tmp_path / "coco")
    path = index_path(root, "train2014")
    whole = path.read_bytes()
    stranger = io.BytesIO()
    np.savez(stranger, other=np.zeros(3))
    for content in (whole[:100], b"", whole[:-30], stranger.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged; delete it and run again"):
            Coco(str(root)).ids("train")


def test_without_pycocotools(monkeypatch, root):
    monkeypatch.setattr(coco_annotations.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'wsss-jax\\[coco\\]'"):
        prepare.prepare_coco(root)


CONFIGURATIONS = ("cam", "cpn", "cse", "infer_cam", "sc_cam")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_are_vocs_but_for_the_data(name):
    voc, coco = (dict(flatten(resolved(load(f"{name}_{data}")))) for data in ("voc", "coco"))
    changed = {key for key in coco if coco[key] != voc[key]}
    data = {"dataset.name", "dataset.root", "dataset.train_split"}
    splits = {"dataset.eval_split", "dataset.infer_split"}  # sc_cam leaves out images without a class
    assert data <= changed <= {*data, *splits, "classifier_from"}
    assert coco["dataset.name"] == "coco14" and coco["classifier_from"] in ("", voc["classifier_from"])


def test_a_run_on_coco(tmp_path):
    root = made(tmp_path / "coco", number=8)
    prepare.prepare_coco(root)
    config = tiny("cam_coco", dataset__root=str(root), total_epochs=1)
    run_stages_of(config, tmp_path, ("train", "infer_cam", "eval_cam"))
    metrics = json.loads((tmp_path / "metrics/eval_cam_train.json").read_text())
    assert metrics["images"] == 8 and len(metrics["fixed"]["iou"]) == 81
    source = Coco(str(root))
    for place, image_id in enumerate(source.ids("train")):
        with np.load(tmp_path / f"cam/train/{image_id}.npz") as file:
            assert file["keys"].tolist() == ([place] if place else [])  # the first has no class
            assert file["cam"].shape == (bool(place), 40, 40)


def made(root, number):
    """COCO's layout with so many images; the first shows no class, each other one the class of its place."""
    images, annotations = [], []
    (root / "train2014").mkdir(parents=True)
    for place in range(number):
        name = f"COCO_train2014_{place + 1:012d}.jpg"
        Image.new("RGB", (40, 40), (30 * place, 90, 200)).save(root / "train2014" / name)
        images.append({"id": place + 1, "file_name": name, "height": 40, "width": 40})
        square = {"image_id": place + 1, "category_id": CATEGORY_IDS[place], "id": place}
        annotations.append({**PERSON, **square, "segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]]})
    (root / "annotations").mkdir()
    change(root, images=images, annotations=annotations[1:])
    return root
