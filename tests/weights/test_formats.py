"""safetensors and NumPy archives, and telling formats apart."""

import os
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers.golden import GOLDEN
from tests.helpers.torch_files import BFLOAT16
from wsss_jax.errors import CheckpointError
from wsss_jax.weights import file_format, read_tensors, sha256
from wsss_jax.weights import files as weight_files
from wsss_jax.weights.npz_files import write_npz
from wsss_jax.weights.safetensors_files import write_safetensors

TENSORS = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f16": np.array([1.5, -2], np.float16),
    "f64": np.array(3.25),
    "i64": np.array(-7),
    "i8": np.array([-1, 1], np.int8),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    "strided": np.arange(10, dtype=np.uint8)[::3],
}


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_safetensors_round_trip(tmp_path):
    wanted = {**TENSORS, "bf16": np.array([1.5, -3], BFLOAT16)}
    path = tmp_path / "a"
    write_safetensors(path, wanted, {"network": "x"})
    assert file_format(path) == "safetensors"
    assert_same(read_tensors(path), wanted)


@pytest.mark.parametrize("length", [0x0112, 0x0280, 0x0380])
def test_a_header_as_long_as_another_formats_magic_number(tmp_path, length):
    """The file begins with the header's length: here MXNet's 0x112, and the opcodes 80 02 and 80 03 of a
    pickle."""
    header = b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(length)
    (tmp_path / "a").write_bytes(struct.pack("<Q", length) + header + b"\x05\x06")
    assert file_format(tmp_path / "a") == "safetensors"
    assert read_tensors(tmp_path / "a")["x"].tolist() == [5, 6]


def test_npz_round_trip(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, {**TENSORS, "bf16": np.array([1.5, -3], BFLOAT16)})
    wanted = {**TENSORS, "bf16": np.array([1.5, -3], np.float32)}
    assert file_format(path) == "npz"
    assert_same(read_tensors(path, verify=True), wanted)
    assert_same(np.load(path), wanted)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote(tmp_path, save):
    wanted = {**TENSORS, "big": np.arange(4, dtype=">f4"), "fortran": np.asfortranarray(TENSORS["f32"])}
    save(tmp_path / "a.npz", **wanted)
    wanted["big"] = wanted["big"].astype(np.float32)
    assert_same(read_tensors(tmp_path / "a.npz", verify=True), wanted)


def npy(tmp_path, header, data=b""):
    """An archive with one array of that header."""
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", raw)
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", "holds something but numbers"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1,), }\n", "damaged header"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", "has 0 bytes, its shape needs 16"),
        (
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 18 + b", 99), }\n",
            "impossible shape",
        ),
        (b"__import__('os')", "damaged header"),
    ],
)
def test_refuses_damaged_arrays(tmp_path, header, reason):
    with pytest.raises(CheckpointError, match=reason):
        read_tensors(npy(tmp_path, header))


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(CheckpointError, match="holds something but numbers"):
        read_tensors(tmp_path / "a.npz")


def test_a_compressed_bomb_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(30_000_000, np.uint8))
    assert os.path.getsize(tmp_path / "a.npz") < 60_000
    with pytest.raises(CheckpointError, match="claims 30000128 bytes"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda raw: struct.pack("<Q", 1 << 25) + raw[8:] + b"\0" * (1 << 25),
            "claims a header of 33554432 bytes",
        ),
        (lambda raw: raw[:-1], "damaged safetensors file"),
        (lambda raw: raw.replace(b"[2,3]", b"[9,9]"), "damaged safetensors file"),
        (lambda raw: raw.replace(b'"dtype"', b'"dtypo"'), "damaged safetensors file"),
    ],
)
def test_refuses_damaged_safetensors(tmp_path, edit, reason):
    path = tmp_path / "a.safetensors"
    save_file({"f32": TENSORS["f32"]}, path)
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: offset 0: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a text, not a weight file"),
        (b"\x1f\x8b" + b"\0" * 20, "gzip or tar"),
        (b"\0" * 257 + b"ustar" + b"\0" * 250, "gzip or tar"),
        (b"\x80\x02K\x01.", "a pickle, but not one of PyTorch's"),
        (b"\x89PNG\r\n\x1a\n", "of no known weight format"),
    ],
)
def test_refuses_other_files(tmp_path, content, reason):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        read_tensors(tmp_path / "a.pth")


def test_refuses_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: cannot be read: No such file"):
        read_tensors(tmp_path / "nowhere.pth")


def test_remote_files_are_copied_first(monkeypatch):
    """`gs://` goes through etils.epath; the arrays outlive the temporary copy."""
    copied = []

    class Remote:
        def __init__(self, name):
            self.name = name

        def copy(self, local):
            copied.append(self.name)
            with open(local, "wb") as stream:
                stream.write((GOLDEN / "torch" / "zip.pth").read_bytes())

    monkeypatch.setattr("etils.epath.Path", Remote)
    found = read_tensors("gs://bucket/zip.pth")
    assert copied == ["gs://bucket/zip.pth"]
    assert_same(found, read_tensors(GOLDEN / "torch" / "zip.pth"))


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_released_pages_are_read_again():
    found = read_tensors(GOLDEN / "torch" / "zip.pth")["conv1.weight"]
    before = found.copy()
    weight_files.release_pages(found.T)
    np.testing.assert_array_equal(found, before)
