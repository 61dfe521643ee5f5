"""Files are there whole or not at all, whatever goes wrong on the way."""

import errno
import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from wsss_jax import files
from wsss_jax.errors import RunError
from wsss_jax.files import (
    append_line,
    is_whole,
    read_json,
    remove_temporary,
    unsealed,
    write_json,
    write_whole,
)


def writer(content=b"new"):
    return lambda file: file.write(content)


def test_a_file_is_written_and_nothing_besides(tmp_path):
    write_whole(tmp_path / "a" / "b" / "file.bin", writer())
    assert (tmp_path / "a" / "b" / "file.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path / "a" / "b") == ["file.bin"]


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "file").write_bytes(b"old and longer")
    write_whole(str(tmp_path / "file"), writer())
    assert (tmp_path / "file").read_bytes() == b"new"


class Bug(Exception):
    pass


@pytest.mark.parametrize("error", [Bug, KeyboardInterrupt])
def test_a_writer_that_raises_leaves_the_old_file_alone(tmp_path, error):
    (tmp_path / "file").write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_whole(tmp_path / "file", write)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    def write(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="file: the disk is full; make room and give the same command again"):
        write_whole(tmp_path / "file", write)
    assert os.listdir(tmp_path) == []


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def replace(source, target):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)") as error:
        write_whole(tmp_path / "file", writer())
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "folder").write_bytes(b"in the way")
    for path in (tmp_path / "folder" / "file", tmp_path / "folder" / "below" / "file"):
        with pytest.raises(RunError, match=f"{path}: cannot be written"):
            write_whole(path, writer())
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write_whole(tmp_path / "file", writer())
    assert os.listdir(tmp_path) == ["file"]


def test_the_longest_name_that_a_folder_takes(tmp_path):
    name = "n" * 255
    write_whole(tmp_path / name, writer())
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(RunError, match="cannot be written"):
        write_whole(tmp_path / (name + "n"), writer())
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", writer())
    finally:
        assert os.umask(before) == umask
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_threads_neither_mix_files_nor_change_permissions(tmp_path):
    """Reading the umask means setting it for a moment, which another thread would see."""
    before = os.umask(0o077)
    try:
        threads = [
            threading.Thread(
                target=lambda n=n: [
                    write_whole(tmp_path / str(n % 3), writer(b"%d" % n * 99)) for _ in range(60)
                ]
            )
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        assert os.umask(before) == 0o077
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert len(content) == 99 and len(set(content)) == 1
        assert path.stat().st_mode & 0o777 == 0o600


def test_json_is_indented_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None], "ä": 0.5})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "b"') and text.endswith("}\n")
    assert unsealed(json.loads(text)) == {"b": [1, None], "ä": 0.5}


def test_json_that_was_changed_is_not_read(tmp_path):
    path, value = tmp_path / "a.json", {"b": [1, None], "ä": 0.1 + 0.2, "c": {"d": "e"}}
    write_json(path, value)
    assert read_json(path, "restore it") == value
    whole = path.read_bytes()
    changed = whole.replace(b"04", b"14")
    for damaged in (b"", whole[:-9], b"[" * 5000, b"null", b"[]", b"{}", changed, b"\xff" + whole):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"a.json: (damaged|not as it was written).*; restore it$"):
            read_json(path, "restore it")
    path.unlink()
    with pytest.raises(RunError, match=r"a.json: damaged"):
        read_json(path, "restore it")


def test_json_by_hand_needs_no_digest(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"split": "val"}')
    assert read_json(path, "", by_hand=True) == {"split": "val"}
    write_json(path, {"split": "val"})
    path.write_text(path.read_text().replace("val", "var"))
    with pytest.raises(RunError, match="not as it was written"):
        read_json(path, "", by_hand=True)


@pytest.mark.parametrize("suffix", [".npz", ".png", ".jpg"])
def test_only_whole_files_are_whole(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert not is_whole(path)
    if suffix == ".npz":
        np.savez(path, a=np.arange(5000))
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)).save(path)
    assert is_whole(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", bytes(len(whole)), whole[:-500] + bytes(500)):
        path.write_bytes(damaged)
        assert not is_whole(path)
    path.unlink()
    path.mkdir()
    assert not is_whole(path)


def test_a_run_whose_folder_was_removed_is_not_begun_silently(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    append_line(folder / "logs/log.txt", "one")
    append_line(folder / "logs/log.txt", "two")
    assert (folder / "logs/log.txt").read_text() == "one\ntwo\n"
    shutil.rmtree(folder)
    with pytest.raises(RunError, match=r"log.txt: its folder was removed meanwhile"):
        append_line(folder / "logs/log.txt", "three")
    assert not folder.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_nan(tmp_path, value):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert os.listdir(tmp_path) == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    kept = ["file.npz", "notes.tmp", ".hidden", "a/.config"]
    left = [".abc123.tmp", "a/.xyz.tmp", "a/b/.q.tmp"]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_temporary(tmp_path)
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == set(kept)


def test_a_temporary_file_is_one_that_is_removed_later(tmp_path):
    """The two functions agree on the name."""

    def write(file):
        remove_temporary(tmp_path)
        assert os.listdir(tmp_path) == []

    with pytest.raises(RunError, match="cannot be written"):
        write_whole(tmp_path / "file", write)
