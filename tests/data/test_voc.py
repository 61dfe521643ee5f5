import pickle

import numpy as np
import pytest
from PIL import Image

from tests.helpers.voc import classes_of, make_voc, write_annotation, write_splits
from wsss_jax.data import label_matrix, make_source
from wsss_jax.data.voc import CLASSES, Voc
from wsss_jax.errors import DataError


@pytest.fixture
def root(tmp_path):
    return make_voc(tmp_path)


def refusal(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ids(*numbers):
    return tuple(f"2007_{n:06d}" for n in numbers)


def test_splits(root):
    source = Voc(str(root))
    assert source.ids("train") == ids(1, 2, 3, 4)
    assert source.ids("val") == ids(5, 6)
    assert source.ids("trainval") == ids(1, 2, 3, 4, 5, 6)
    assert source.ids("train_aug") == ids(1, 2, 3, 4, 7, 8, 9)


def test_train_aug_ignores_a_list_of_that_name(root):
    write_splits(root, {"train_aug": ["2007_000001"]})
    assert Voc(str(root)).ids("train_aug") == ids(1, 2, 3, 4, 7, 8, 9)


def test_home_directory_is_expanded(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert make_source("voc12", "~/VOC2012").ids("val") == ids(5, 6)


def test_list_files(root, tmp_path):
    source = Voc(str(root))
    path = tmp_path / "mine.txt"
    path.write_text("2007_000009\n\n2007_000002\r\n")
    assert source.ids(str(path)) == ids(9, 2)
    path.write_text("/JPEGImages/2007_000003.jpg /SegmentationClassAug/2007_000003.png\n")
    assert source.ids(str(path)) == ids(3)


def test_images_masks_and_labels(root):
    source = Voc(str(root))
    image = source.image("2007_000002")
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert source.size("2007_000002") == (40, 60)
    labels = source.labels("2007_000002")
    assert (labels.shape, labels.dtype) == ((20,), np.float32)
    assert np.flatnonzero(labels).tolist() == classes_of(2) == [2, 9]
    mask = source.mask("2007_000002")
    assert np.unique(mask).tolist() == [0, 3, 10, 255]  # the official one, with its void border
    assert mask[20, 10] == 3
    assert np.abs(image[20, 10].astype(int) - (128, 128, 0)).max() < 40  # JPEG of colour 3
    assert source.has_mask("2007_000002") and source.has_mask("2007_000007")
    assert np.unique(source.mask("2007_000007")).tolist() == [0, 8]  # only in SegmentationClassAug
    (root / "SegmentationClassAug" / "2007_000007.png").unlink()
    assert source.mask("2007_000007") is None and not source.has_mask("2007_000007")


def test_difficult_objects_count_and_parts_do_not(root):
    write_annotation(root, "2007_000001", ["dog", "dog", "cat"], difficult=True)
    labels = Voc(str(root)).labels("2007_000001")
    assert [CLASSES[c] for c in np.flatnonzero(labels)] == ["cat", "dog"]


def test_is_a_source_that_can_be_pickled(root):
    source = make_source("voc12", root)
    assert source.name == "voc12"
    assert len(source.classes) == 20 and list(source.classes) == sorted(source.classes)
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    np.testing.assert_array_equal(copy.image("2007_000001"), source.image("2007_000001"))
    matrix = label_matrix(source, source.ids("train"))
    assert [np.flatnonzero(row).tolist() for row in matrix] == [sorted(classes_of(n)) for n in (1, 2, 3, 4)]
    assert "empty" in refusal(label_matrix, source, ())


@pytest.mark.parametrize("wrong", ["..", "../..", "JPEGImages", "ImageSets/Segmentation"])
def test_a_root_too_high_or_too_low_names_the_right_one(root, wrong):
    message = refusal(Voc, str((root / wrong).resolve()))
    assert message.startswith("dataset.root") and message.endswith(f"give {root}")


def test_roots_that_are_no_devkit(tmp_path):
    assert "does not exist" in refusal(Voc, str(tmp_path / "no"))
    (tmp_path / "empty" / "deeper" / "still" / "more").mkdir(parents=True)
    assert "has no folder JPEGImages" in refusal(Voc, str(tmp_path / "empty" / "deeper" / "still" / "more"))


def test_unknown_split(root):
    source = Voc(str(root))
    assert "did you mean 'train'" in refusal(source.ids, "tarin")
    assert "there are train, train_aug, trainval, val" in refusal(source.ids, "xyz")
    assert "no such file: lists/no.txt" in refusal(source.ids, "lists/no.txt")


def test_missing_folders(root):
    for mask in (root / "SegmentationClassAug").iterdir():
        mask.unlink()
    (root / "SegmentationClassAug").rmdir()
    assert "SBD masks" in refusal(Voc(str(root)).ids, "train_aug")
    (root / "ImageSets").rename(root / "elsewhere")
    assert "there is no folder" in refusal(Voc(str(root)).ids, "train")


def test_bad_lists(root):
    source = Voc(str(root))
    for content, expected in [
        (["2007_000001", "2007_000001"], "'2007_000001' is listed more than once"),
        ([], "lists no image"),
        (["2007_000001", "2007_999999", "2008_1"], "2 of 3 ids, the first '2007_999999', have no image"),
        (["../2007_000001"], "must be a relative path"),
        (["2007_000001  1"], "train.txt line 1: expected one image id"),
    ]:
        write_splits(root, {"train": content})
        assert expected in refusal(source.ids, "train")


def test_bad_annotations(root):
    source = Voc(str(root))
    write_annotation(root, "2007_000001", ["dog", "unicorn"])
    message = refusal(source.labels, "2007_000001")
    assert "'2007_000001'" in message and "'unicorn'" in message and "2007_000001.xml" in message
    write_annotation(root, "2007_000001", [])
    assert source.labels("2007_000001").tolist() == [0] * 20  # a negative
    (root / "Annotations" / "2007_000001.xml").write_text("<annotation><object>")
    assert "not valid XML" in refusal(source.labels, "2007_000001")
    (root / "Annotations" / "2007_000001.xml").unlink()
    assert "no annotation" in refusal(source.labels, "2007_000001")


def test_bad_pictures_and_masks(root):
    source = Voc(str(root))
    (root / "JPEGImages" / "2007_000001.jpg").write_bytes(b"")
    assert "2007_000001.jpg cannot be decoded" in refusal(source.image, "2007_000001")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "SegmentationClass" / "2007_000002.png")
    assert "is 9x9 pixels, but its image is 60x40" in refusal(source.mask, "2007_000002")
