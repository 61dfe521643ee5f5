import pickle

import numpy as np
import pytest
from PIL import Image

from tests.helpers.voc import write_mask
from wsss_jax.data import make_source
from wsss_jax.data.folder import Folder
from wsss_jax.errors import DataError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "pets"
    (root / "images" / "more").mkdir(parents=True)
    for name, size in {
        "a.jpg": (4, 6),
        "b 1.PNG": (5, 5),
        "more/c.x.webp": (3, 8),
        "more/d.bmp": (2, 2),
    }.items():
        picture = Image.new("RGB", size[::-1], (10, 20, 30))
        picture.save(root / "images" / name)
    for junk in (".hidden.jpg", "Thumbs.db", "more/notes.txt"):
        (root / "images" / junk).write_text("x")
    (root / "classes.txt").write_text("cat\npotted plant\n\ndog\n")
    (root / "labels.csv").write_text(
        "image,labels\na.jpg,cat\nb 1,dog; potted plant\n\nimages/more/c.x.webp,cat;cat\nmore\\d.bmp,\n"
    )
    return root


def refusal(function, *args):
    with pytest.raises(DataError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_ids_sizes_and_pixels(root):
    source = make_source("folder", root)
    assert (source.name, source.classes) == ("folder", ("cat", "potted plant", "dog"))
    assert source.ids("all") == ("a", "b 1", "more/c.x", "more/d")
    assert [source.size(i) for i in source.ids("all")] == [(4, 6), (5, 5), (3, 8), (2, 2)]
    assert source.image("b 1").shape == (5, 5, 3)
    assert source.image("more/d")[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["tif", "tiff", "TIFF", "gif"])
def test_pictures_of_microscopes_and_scanners(root, suffix):
    Image.new("RGB", (7, 4), (10, 20, 30)).save(root / f"images/e.{suffix}")
    assert "e" in Folder(str(root)).ids("all")
    assert Folder(str(root)).image("e")[3, 6].tolist() == [10, 20, 30]
    (root / "masks").mkdir()
    Image.new("L", (7, 4)).save(root / "masks/e.tif")
    assert "must be a PNG" in refusal(Folder(str(root)).mask, "e")


def test_labels(root):
    source = Folder(str(root))
    assert source.labels("a").tolist() == [1, 0, 0]
    assert source.labels("b 1").tolist() == [0, 1, 1]
    assert source.labels("more/c.x").tolist() == [1, 0, 0]
    assert source.labels("a").dtype == np.float32
    assert source.labels("more/d").tolist() == [0, 0, 0]  # an empty cell: a negative
    (root / "labels.csv").write_text("\ufeffImage, Labels\n", encoding="utf-8")
    assert "'a': no line" in refusal(Folder(str(root)).labels, "a")  # no line


def test_masks(root):
    source = Folder(str(root))
    assert source.mask("a") is None
    (root / "masks" / "more").mkdir(parents=True)
    mask = np.array([[0, 3], [255, 1]], np.uint8)
    write_mask(root / "masks" / "more" / "d.png", mask)
    np.testing.assert_array_equal(source.mask("more/d"), mask)
    assert source.has_mask("more/d") and not source.has_mask("a")
    write_mask(root / "masks" / "more" / "c.x.png", mask)
    assert "mask of 'more/c.x'" in refusal(source.mask, "more/c.x")  # other size
    Image.fromarray(mask).save(root / "masks" / "a.jpg")
    assert "must be a PNG" in refusal(source.mask, "a")


def test_splits(root, tmp_path):
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("b 1.PNG\nmore/d\n")
    source = Folder(str(root))
    assert source.ids("train") == ("b 1", "more/d")
    (tmp_path / "mine.txt").write_text("a\n")
    assert source.ids(str(tmp_path / "mine.txt")) == ("a",)
    assert "there are all, train" in refusal(source.ids, "val")
    for content, expected in [
        ("a\na.jpg\n", "'a' is listed more than once"),
        ("\n", "lists no image"),
        ("a\nzz\n", "train.txt line 2: there is no image 'zz'"),
        ("a.png\n", "no image 'a.png'"),  # there is a.jpg
        ("../a\n", "train.txt line 1"),
        ("/a\n", "must be a relative path"),
    ]:
        (root / "splits" / "train.txt").write_text(content)
        assert expected in refusal(source.ids, "train")


def test_pickled_copy_works_after_the_lists_are_gone(root):
    source = Folder(str(root))
    expected = source.labels("a")
    copy = pickle.loads(pickle.dumps(source))
    (root / "labels.csv").unlink()
    assert copy == source
    assert copy.labels("a").tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: expected the header 'image,labels', found ''"),
        ("a.jpg,cat\n", "line 1: expected the header"),
        ("image;labels\n", "line 1: expected the header 'image,labels', found 'image;labels'"),
        ("image,labels\na,cat\nb 1,cst\n", "line 3: 'cst' is not in classes.txt; did you mean 'cat'?"),
        ("image,labels\na,cat|dog|potted plant\n", "separate classes by ';'"),
        ("image,labels\na,cat,dog\n", "line 2: expected 2 columns"),
        ("image,labels\na\n", "line 2: expected 2 columns"),
        ("image,labels\nzz.jpg,cat\n", "line 2: there is no image 'zz.jpg'"),
        ("image,labels\na,cat\na.jpg,dog\n", "line 3: image 'a' has a line already"),
        ('image,labels\na,"cat\n', "unexpected end of data"),
        ("image,labels\n,cat\n", "line 2"),
    ],
)
def test_bad_labels(root, content, expected):
    (root / "labels.csv").write_text(content)
    message = refusal(Folder(str(root)).labels, "a")
    assert "labels.csv" in message and expected in message


def test_labels_file_missing_or_not_utf8(root):
    (root / "labels.csv").write_bytes(b"image,labels\na,c\xe4t\n")
    assert "not UTF-8" in refusal(Folder(str(root)).labels, "a")
    (root / "labels.csv").unlink()
    source = Folder(str(root))
    assert "no such file" in refusal(source.labels, "a")
    assert source.image("a").shape == (4, 6, 3)  # pictures can be used without labels


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "lists 0 classes"),
        ("".join(f"c{i}\n" for i in range(255)), "lists 255 classes; there must be 1 to 254"),
        ("cat\ndog\ncat\n", "line 3: class 'cat' is listed twice"),
        ("background\ncat\n", "line 1: remove 'background'"),
        ("a;b\n", "holds ';'"),
    ],
)
def test_bad_classes(root, content, expected):
    (root / "classes.txt").write_text(content)
    assert expected in refusal(lambda: Folder(str(root)).classes)


def test_bad_roots_and_images(root, tmp_path):
    assert "is not a folder" in refusal(Folder, str(tmp_path / "no"))
    assert "has no images" in refusal(Folder, str(tmp_path))
    (root / "images" / "a.png").write_bytes(b"")
    message = refusal(Folder(str(root)).ids, "all")
    assert "a.jpg and a.png have the same id 'a'" in message
    (root / "images" / "a.png").unlink()
    (root / "classes.txt").unlink()
    assert "has no classes.txt" in refusal(Folder, str(root))


def test_unusable_file_names_and_empty_folder(root):
    (root / "images" / "a\nb.jpg").write_bytes(b"")
    assert "control character" in refusal(Folder(str(root)).ids, "all")
    empty = root / "empty"
    (empty / "images").mkdir(parents=True)
    (empty / "classes.txt").write_text("cat\n")
    assert "has no image; it takes .jpg" in refusal(Folder(str(empty)).ids, "all")
    (root / "images" / "a\nb.jpg").unlink()
    assert "no such image" in refusal(Folder(str(root)).image, "zz")


def test_links_are_followed_but_not_in_circles(root):
    (root / "images" / "more" / "up").symlink_to(root / "images")
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (2, 2)).save(elsewhere / "e.png")
    (root / "images" / "linked").symlink_to(elsewhere)
    assert Folder(str(root)).ids("all") == ("a", "b 1", "linked/e", "more/c.x", "more/d")
