import hashlib

import pytest

from wsss_jax.data import lists
from wsss_jax.errors import DataError


def test_lines_are_stripped_numbered_and_blank_ones_skipped(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two words \nthree")
    assert lists.read_lines(path) == [(1, "one"), (3, "two words"), (4, "three")]


def test_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("one")
    assert lists.read_lines("~/a.txt") == [(1, "one")]


def test_unreadable_lists(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        lists.read_lines(tmp_path / "no.txt")
    (tmp_path / "latin.txt").write_bytes(b"ab\xe9\n")
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 2\)"):
        lists.read_lines(tmp_path / "latin.txt")
    with pytest.raises(DataError, match="cannot read"):
        lists.read_lines(tmp_path)


def test_check_ids():
    assert lists.check_ids(["a", "b/c d"], "x.txt") == ("a", "b/c d")
    with pytest.raises(DataError, match=r"x.txt lists no image"):
        lists.check_ids([], "x.txt")
    with pytest.raises(DataError, match=r"x.txt: image id 'a' is listed more than once"):
        lists.check_ids(["a", "b", "a"], "x.txt")


@pytest.mark.parametrize(
    "image_id", ["/etc/a", "../a", "a/../b", "a//b", "./a", "a/", "", "a\\b", "a\tb", "a "]
)
def test_ids_that_cannot_name_output_files(image_id):
    with pytest.raises(DataError, match=r"x\.txt") as caught:
        lists.check_id(image_id, "x.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "name"),
    [("train_aug", "train_aug"), ("lists/mine.txt", "mine"), ("v1.txt", "v1"), ("/a/b", "b")],
)
def test_split_name(split, name):
    assert lists.split_name(split) == name


def test_sha256_is_of_the_list_file():
    assert lists.sha256(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert lists.sha256(["b", "a"]) != lists.sha256(["a", "b"])
