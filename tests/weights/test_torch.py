import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN
from wsss_jax.errors import CheckpointError
from wsss_jax.weights import file_format, read_tensors

FOLDER = GOLDEN / "torch"
BAD = ("malicious", "malicious_legacy", "truncated", "truncated_legacy", "empty", "text")
GOOD = sorted(path.stem for path in FOLDER.glob("*.pth") if path.stem not in BAD)


def assert_same(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert np.array(found[name]).tobytes() == np.array(value).tobytes(), name


@pytest.mark.parametrize("name", GOOD)
def test_reads_what_pytorch_wrote(name):
    expected = np.load(FOLDER / "expected.npz")
    prefix = f"{name}.pth/"
    wanted = {key.removeprefix(prefix): expected[key] for key in expected if key.startswith(prefix)}
    for key in [key for key in wanted if key.endswith(":bfloat16_bits")]:
        wanted[key.partition(":")[0]] = wanted.pop(key).view(tf.BFLOAT16)
    found = read_tensors(FOLDER / f"{name}.pth", verify=True)
    assert_same(found, wanted)
    assert file_format(FOLDER / f"{name}.pth") == ("torch-legacy" if "legacy" in name else "torch-zip")


@pytest.mark.parametrize(
    ("name", "offset", "reason"),
    [
        ("malicious", 262, "asks for 'posix' 'system'"),
        ("malicious_legacy", 349, "asks for 'posix' 'system'"),
        ("truncated", 2574, "File is not a zip file"),
        ("truncated_legacy", 1220, "the pickle is cut off"),
        ("empty", 0, "the file is empty"),
        ("text", 0, "is a text, not a weight file"),
    ],
)
def test_refuses_with_file_offset_and_reason(name, offset, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read_tensors(FOLDER / f"{name}.pth")
    assert str(caught.value).startswith(f"{FOLDER / name}.pth: offset {offset}: ")
    assert reason in str(caught.value)
    assert not list(tmp_path.iterdir())  # the malicious ones would make a file PWNED


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_of_any_tensors(tmp_path, data):
    dtypes = st.sampled_from(sorted(tf.STORAGES)).map(
        lambda name: tf.BFLOAT16 if name == "bfloat16" else np.dtype(name)
    )
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    wanted = {}
    for name in data.draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True)):
        dtype, shape = data.draw(dtypes), data.draw(shapes)
        raw = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
            0, 2, (*shape, dtype.itemsize), np.uint8
        )
        wanted[name] = raw.view(dtype)[..., 0] if dtype != np.bool_ else raw[..., 0].astype(bool)
    assert_same(read_tensors(tf.write_zip(tmp_path / "a.pth", wanted), verify=True), wanted)
    assert_same(read_tensors(tf.write_zip(tmp_path / "b.pth", wanted, big_endian=True), verify=True), wanted)
    assert_same(read_tensors(tf.write_legacy(tmp_path / "c.pth", wanted)), wanted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    strides=st.lists(st.integers(0, 7), min_size=3, max_size=3),
    offset=st.integers(0, 30),
)
def test_a_view_is_numpys_view_or_refused(tmp_path, shape, strides, offset):
    """24 numbers; every window that lies inside is read, every other one refused."""
    strides = strides[: len(shape)]
    base = np.arange(24, dtype=np.float32)
    content = tf.mapping({"x": tf.tensor(tf.storage("0", "float32", 24), offset, shape, strides)})
    path = tf.write_zip_parts(tmp_path / "a.pth", content, {"0": base.tobytes()})
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 in shape:
        assert read_tensors(path)["x"].shape == tuple(shape)
    elif last >= 24:
        with pytest.raises(CheckpointError, match=r"reaches beyond its storage|bytes"):
            read_tensors(path)
    else:
        wanted = [base[offset + np.dot(index, strides)] for index in np.ndindex(*shape)]
        assert read_tensors(path)["x"].ravel().tolist() == wanted


def test_views_are_not_copies_and_cannot_be_written():
    found = read_tensors(FOLDER / "views.pth")
    assert np.shares_memory(found["base"], found["transposed"])
    with pytest.raises(ValueError, match="read-only"):
        found["base"][0, 0] = 1


@pytest.mark.parametrize("wrap", ["state_dict", "model", "net"])
def test_wrapped_dictionaries(tmp_path, wrap):
    wanted = {"fc.weight": np.ones((2, 3), np.float32)}
    assert_same(read_tensors(tf.write_zip(tmp_path / "a.pth", wanted, wrap=wrap)), wanted)


def test_a_tensor_beside_the_state_dict_is_not_taken_for_it(tmp_path):
    inner = tf.mapping({"w": tf.contiguous(np.ones(2, np.float32), "0")})
    content = tf.mapping({"best": tf.contiguous(np.ones(1, np.float32), "1"), "state_dict": inner})
    path = tf.write_zip_parts(tmp_path / "a.pth", content, {"0": b"\0" * 8, "1": b"\0" * 4})
    assert list(read_tensors(path)) == ["w"]


def test_tells_what_a_file_without_state_dict_holds(tmp_path):
    content = tf.mapping({"epoch": tf.integer(3), "optimizer": tf.mapping({"lr": tf.integer(1)})})
    with pytest.raises(CheckpointError, match=r"holds no state dict \(found: 'epoch', 'optimizer'\)"):
        read_tensors(tf.write_zip_parts(tmp_path / "a.pth", content, {}))


def test_storage_views_of_the_oldest_files(tmp_path):
    """A persistent id may name a part of a storage: (key, first, length)."""
    view = b"(" + tf.text("v") + tf.integer(2) + tf.integer(3) + b"t"
    content = tf.mapping({"x": tf.tensor(tf.storage("0", "float32", 6, view), 1, [2], [1])})
    raw = np.arange(6, dtype=np.float32).tobytes()
    assert read_tensors(tf.write_legacy_parts(tmp_path / "a.pth", content, {"0": (6, raw)}))[
        "x"
    ].tolist() == [3, 4]
    content = tf.mapping({"x": tf.tensor(tf.storage("0", "float32", 6, view), 1, [3], [1])})
    with pytest.raises(CheckpointError, match="reaches beyond its storage"):
        read_tensors(tf.write_legacy_parts(tmp_path / "a.pth", content, {"0": (6, raw)}))


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("torch.nn.modules.conv", "Conv2d"), ("numpy.core.multiarray", "_reconstruct")],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_refuses_every_other_global_by_name(tmp_path, module, name, stacked):
    ask = tf.text(module) + tf.text(name) + b"\x93" if stacked else f"c{module}\n{name}\n".encode()
    content = tf.mapping({"x": ask + tf.text("1") + b"\x85R"})
    with pytest.raises(CheckpointError, match=rf"offset .* asks for '{module}' '{name}'"):
        read_tensors(tf.write_zip_parts(tmp_path / "a.pth", content, {}))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"]" * 1_200_000, "more than 1000000 operations"),
        (b"i", "opcode b'i' does not occur"),
        (b"\x82\x01", "does not occur"),
        (b"R", "pop from empty list"),
        (b"t", "pop from empty list"),
        (b"h\x07", "Memo value not found at index 7"),
        (b"K\x01)R", "calls something that cannot be called"),
        (b"X\xff\xff\xff\xff", "the pickle is cut off"),
        (b"\x8e" + b"\xff" * 8, "BINBYTES8 exceeds"),
        (b"}(K\x01u", "a dictionary entry lacks its value"),
        (b"}K\x01)\x85K\x02s", "SETITEM needs a dict|takes more"),
        (b"}]K\x02s", "neither a string nor a number"),
        (b"}\x8a\x09" + b"\xff" * 8 + b"\x01K\x02s", "extremely large number"),
        (
            b"ccollections\nOrderedDict\nK\x01\x85R",
            r"damaged pickle \(TypeError: 'int' object is not iterable",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "missing 4 required positional arguments"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR", "a tensor is described wrongly"),
        (b"K\x01Q", "a persistent id is no storage"),
        (b"c" + b"x" * 600, "a global name does not end"),
    ],
)
def test_refuses_damaged_pickles(tmp_path, content, reason):
    with pytest.raises(CheckpointError, match=reason):
        read_tensors(tf.write_zip_parts(tmp_path / "a.pth", content, {}))


def test_a_deep_nest_is_no_danger(tmp_path):
    """Half a million tuples in each other: neither recursion nor a crash when they are freed."""
    content = tf.mapping({"x": b")" + b"\x85" * 500_000})
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_tensors(tf.write_zip_parts(tmp_path / "a.pth", content, {}))


def test_shared_numbers_cannot_stand_for_more_than_the_file(tmp_path):
    one = tf.storage("0", "float32", 4)
    bomb = tf.mapping({"x": tf.tensor(one, 0, [1 << 38], [0])})
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="would take 1099511627776 bytes"):
            read_tensors(tf.write_zip_parts(tmp_path / "a.pth", bomb, {"0": b"\0" * 16}))
        crowd = tf.mapping({f"x{i}": tf.tensor(one, 0, [1 << 16], [0]) for i in range(200)})
        with pytest.raises(CheckpointError, match="the tensors would take 52428800 bytes"):
            read_tensors(tf.write_zip_parts(tmp_path / "b.pth", crowd, {"0": b"\0" * 16}))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_storage_must_hold_what_is_claimed(tmp_path):
    content = tf.mapping({"x": tf.contiguous(np.ones(8, np.float32), "0")})
    with pytest.raises(CheckpointError, match="needs a storage of 32 bytes, it has 16"):
        read_tensors(tf.write_zip_parts(tmp_path / "a.pth", content, {"0": b"\0" * 16}))
    with pytest.raises(CheckpointError, match="no usable entry archive/data/0"):
        read_tensors(tf.write_zip_parts(tmp_path / "b.pth", content, {"1": b"\0" * 32}))
    legacy = tf.mapping({"x": tf.contiguous(np.ones(8, np.float32), "0", b"N")})
    with pytest.raises(CheckpointError, match="4 numbers where 8 were announced"):
        read_tensors(tf.write_legacy_parts(tmp_path / "c.pth", legacy, {"0": (4, b"\0" * 32)}))
    with pytest.raises(CheckpointError, match=r"storage '0' needs 32 bytes, 31 are left"):
        read_tensors(tf.write_legacy_parts(tmp_path / "d.pth", legacy, {"0": (8, b"\0" * 31)}))
    with pytest.raises(CheckpointError, match="names one twice, or one that no tensor uses"):
        read_tensors(tf.write_legacy_parts(tmp_path / "e.pth", legacy, {"9": (8, b"\0" * 32)}))


def test_checksums_are_compared_on_request(tmp_path):
    path = tf.write_zip(tmp_path / "a.pth", {"x": np.full(64, 7, np.uint8)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"\x07" * 64, b"\x07" * 63 + b"\x08"))
    assert read_tensors(path)["x"][-1] == 8
    with pytest.raises(CheckpointError, match="Bad CRC-32 for file 'archive/data/0'"):
        read_tensors(path, verify=True)
    path.write_bytes(raw.replace(b"ByteStorage", b"CharStorage"))
    with pytest.raises(CheckpointError, match=r"Bad CRC-32 for file .archive/data\.pkl"):
        read_tensors(path)


def test_zip64_and_large_indices(tmp_path):
    """The fields that zip64 moves aside, forced for a small entry."""
    path = tmp_path / "a.pth"
    raw = np.arange(5, dtype=np.float32).tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        content = tf.mapping({"x": tf.contiguous(np.ones(5, np.float32), "0")})
        archive.writestr("a/data.pkl", tf.pickle(content))
        with archive.open("a/data/0", "w", force_zip64=True) as stream:
            stream.write(raw)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    size, name_size = (
        struct.unpack_from("<I", data, entry + 24)[0],
        struct.unpack_from("<H", data, entry + 28)[0],
    )
    assert size == 20
    struct.pack_into("<2I", data, entry + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", data, entry + 30, 20)
    extra = struct.pack("<2H2Q", 1, 16, 20, 20)
    end = data.index(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 12, struct.unpack_from("<I", data, end + 12)[0] + 20)
    at = entry + 46 + name_size
    path.write_bytes(bytes(data[:at]) + extra + bytes(data[at:]))
    assert read_tensors(path)["x"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda raw, entry: struct.pack_into("<H", raw, entry + 8, 1), "is encrypted"),
        (lambda raw, entry: struct.pack_into("<H", raw, entry + 10, 99), "packed in an unknown way"),
        (
            lambda raw, entry: struct.pack_into("<I", raw, entry + 42, 5),
            "no zip entry begins here, where 'archive/data.pkl'",
        ),
        (lambda raw, entry: struct.pack_into("<I", raw, entry + 42, 1 << 30), "bytes, 0 are left"),
        (
            lambda raw, entry: struct.pack_into("<2I", raw, entry + 20, 1 << 30, 1 << 30),
            "needs 1073741824 bytes",
        ),
        (lambda raw, entry: raw.__setitem__(entry, 0), "Bad magic number for central directory"),
    ],
)
def test_refuses_a_damaged_index(tmp_path, edit, reason):
    path = tf.write_zip(tmp_path / "a.pth", {"x": np.ones(4, np.float32)})
    raw = bytearray(path.read_bytes())
    edit(raw, raw.index(b"PK\x01\x02"))
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=reason):
        read_tensors(path)


def test_parts_that_pytorch_would_write_differently(tmp_path):
    path = tmp_path / "a.pth"
    content = tf.pickle(tf.mapping({"x": tf.contiguous(np.ones(4, np.float32), "0")}))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", content)
    with pytest.raises(CheckpointError, match=r"no usable entry a/data.pkl"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("b/data.pkl", content)
    with pytest.raises(CheckpointError, match=r"2 entries data.pkl"):
        read_tensors(path)
    content = tf.mapping({"x": tf.contiguous(np.ones(4, np.float32), "0")})
    tf.write_zip_parts(path, content, {"0": b"\0" * 16}, b"middle")
    with pytest.raises(CheckpointError, match="unknown byte order b'middle'"):
        read_tensors(path)
