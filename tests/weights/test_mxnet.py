import struct
import tracemalloc

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, tensor
from tests.helpers.mxnet_files import published_file
from wsss_jax.errors import CheckpointError
from wsss_jax.weights import read_tensors
from wsss_jax.weights.mapping import torch_names

FOLDER = GOLDEN / "mxnet"
GOOD = ("dtypes", "float16", "legacy_v0", "legacy_v0_gpu", "legacy_v1", "list", "names_utf8", "prefixed")


def write(path, records, names=None):
    """A parameter file of raw array records."""
    raw = struct.pack("<3Q", 0x112, 0, len(records)) + b"".join(records)
    names = names if names is not None else [f"arg:x{i}" for i in range(len(records))]
    raw += struct.pack("<Q", len(names))
    raw += b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)
    path.write_bytes(raw)
    return path


def record_v2(shape, flag, raw, storage=0):
    head = struct.pack("<Iii", 0xF993FAC9, storage, len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    return head + struct.pack("<iii", 2, 3, flag) + raw


@pytest.mark.parametrize("name", GOOD)
def test_reads_what_mxnet_wrote(name):
    expected = np.load(FOLDER / "expected.npz")
    prefix = f"{name}.params/"
    wanted = {key.removeprefix(prefix): expected[key] for key in expected if key.startswith(prefix)}
    found = read_tensors(FOLDER / f"{name}.params")
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(
    ("name", "offset", "reason"),
    [
        ("truncated", 544, "array 1 needs 16 bytes, 9 are left"),
        ("truncated_names", 812, "a name needs 18 bytes, 11 are left"),
        ("bad_magic", 0, "no known weight format; it starts with 13 01"),
        ("empty", 0, "the file is empty"),
        ("huge_count", 16, "claims 1099511627776 arrays"),
        ("row_sparse", 28, "array 0 is row-sparse; only dense"),
    ],
)
def test_refuses_with_file_offset_and_reason(name, offset, reason):
    path = FOLDER / f"{name}.params"
    with pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: offset {offset}: ")
    assert reason in message
    assert "\n" not in message


def test_the_published_names_in_the_oldest_layout():
    """All 193 arrays of the published file, 1/64 as wide."""
    found = read_tensors(FOLDER / "resnet38_legacy_v0.params")
    assert len(found) == 193
    assert found["arg:linear1000_weight"].shape == (15, 64)
    named = torch_names(found)
    assert len(named) == 191
    for name, value in named.items():
        np.testing.assert_array_equal(value, tensor("dev", name, value.shape), err_msg=name)


def test_the_published_names_in_the_layout_of_today(tmp_path):
    """The same, 1/16 as wide, as MXNet 1.9.1 writes them."""
    path = tmp_path / "published.params"
    wanted = published_file(path)
    named = torch_names(read_tensors(path))
    assert set(named) == wanted.keys() - {"linear1000.weight", "linear1000.bias"}
    for name, value in named.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_scalars_and_booleans_of_version_3(tmp_path):
    scalar = struct.pack("<Iii", 0xF993FACA, 0, 0) + struct.pack("<iii", 1, 0, 1) + struct.pack("<d", 2.5)
    absent = struct.pack("<Iii", 0xF993FACA, 0, -1)
    flags = record_v2((3,), 7, b"\x00\x01\x05")
    found = read_tensors(write(tmp_path / "a.params", [scalar, absent, flags]))
    assert found["arg:x0"].shape == () and found["arg:x0"] == 2.5
    assert found["arg:x1"].shape == (0,)
    assert found["arg:x2"].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (record_v2((2, 2), 9, b"\0" * 16), "unknown type flag 9"),
        (record_v2((-2, -2), 0, b"\0" * 16), "impossible shape (-2, -2)"),
        (record_v2((1 << 62, 1 << 62, 0), 0, b""), "impossible shape"),
        (record_v2((1 << 40,), 0, b""), "needs 4398046511104 bytes"),
        (record_v2((2,), 0, b"\0" * 8, storage=2), "CSR-sparse"),
        (record_v2((2,), 0, b"\0" * 8, storage=7), "stored in the unknown way 7"),
        (struct.pack("<I", 77) + b"\0" * 400, "77 dimensions, or an unknown version"),
    ],
)
def test_refuses_a_damaged_array(tmp_path, record, reason):
    with pytest.raises(CheckpointError, match="offset") as caught:
        read_tensors(write(tmp_path / "a.params", [record]))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["a"], "1 names for 2 arrays"), (["a", "a"], "the name 'a' occurs twice"), ([], None)],
)
def test_names_must_fit(tmp_path, names, reason):
    records = [record_v2((1,), 3, b"\x07"), record_v2((1,), 3, b"\x08")]
    path = write(tmp_path / "a.params", records, names)
    if reason is None:
        assert {name: value.tolist() for name, value in read_tensors(path).items()} == {"0": [7], "1": [8]}
    else:
        with pytest.raises(CheckpointError, match=reason):
            read_tensors(path)


def test_refuses_bytes_behind_the_end_and_names_that_are_no_text(tmp_path):
    path = write(tmp_path / "a.params", [record_v2((1,), 3, b"\x07")])
    good = path.read_bytes()
    path.write_bytes(good + b"x")
    with pytest.raises(CheckpointError, match="1 bytes follow the last name"):
        read_tensors(path)
    path.write_bytes(good.replace(b"arg:x0", b"arg:\xff0"))
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_tensors(path)


def test_a_claim_costs_no_memory():
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read_tensors(FOLDER / "huge_count.params")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
