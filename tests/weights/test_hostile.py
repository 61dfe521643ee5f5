"""Weight files made to harm: refused soon, in little memory, with a message that can be printed."""

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.helpers import torch_files as tf
from wsss_jax.errors import CheckpointError
from wsss_jax.weights import detect_network, read_tensors

SECONDS, BYTES = 5.0, 64 << 20


def refusal(read, *arguments):
    """The one line that says why, after less than a few seconds and megabytes."""
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as error:
            read(*arguments)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < SECONDS
    message = str(error.value)
    assert message.isprintable() and len(message) <= 1 << 15
    return message


def pth(folder, shape, strides):
    """A checkpoint of a tensor with any shape, given as pickled values."""
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + tf.storage("0", "float32", 4) + b"K\x00"
    tensor = call + shape + strides + b"\x89" + tf.ORDERED_DICT + b"tR"
    return tf.write_zip_parts(folder / "a.pth", tf.mapping({"x": tensor}), {"0": bytes(16)})


@pytest.mark.parametrize("count", [2, 1000])
def test_shapes_of_huge_integers(tmp_path, count):
    raw = b"\x7f" * 100_000
    huge = b"\x8b" + struct.pack("<I", len(raw)) + raw + b"q\x50"
    shape = b"(" + huge + b"h\x50" * (count - 1) + b"tq\x51"
    assert "a tensor is described wrongly" in refusal(read_tensors, pth(tmp_path, shape, b"h\x51"))


@pytest.mark.parametrize("count", [32, 33, 120_000])
def test_many_large_dimensions(tmp_path, count):
    shape = b"(\x8a\x08" + struct.pack("<q", (1 << 59) + 1) + b"q\x50" + b"h\x50" * (count - 1) + b"tq\x51"
    reason = "impossible shape" if count == 32 else "a tensor is described wrongly"
    assert reason in refusal(read_tensors, pth(tmp_path, shape, b"h\x51"))


def test_values_that_are_used_again_and_again(tmp_path):
    """Each of 20,000 calls would copy a list of 1000 pairs."""
    pairs = b"](" + b"K\x01K\x02\x86" * 1000 + b"eq\x50"
    calls = b"ccollections\nOrderedDict\nq\x51" + b"h\x51h\x50\x85R" * 20_000
    content = tf.mapping({"x": pairs + calls})
    assert "again and again" in refusal(read_tensors, tf.write_zip_parts(tmp_path / "a.pth", content, {}))


def test_a_long_tuple_that_is_used_again_and_again(tmp_path):
    """Each of 200,000 calls would look at 100,000 values, none of which has a length."""
    arguments = b"(" + b"N" * 100_000 + b"tq\x50"
    calls = b"ctorch\ndevice\nq\x51" + b"h\x51h\x50R" * 200_000
    content = tf.mapping({"x": arguments + calls})
    assert "again and again" in refusal(read_tensors, tf.write_zip_parts(tmp_path / "a.pth", content, {}))


@pytest.mark.parametrize("key", [b")" + b"\x85" * 200_000, b")" + b"2\x86" * 200])
def test_tuples_in_tuples_as_keys(tmp_path, key):
    """The hash of one is a crash of Python's unpickler in C, of the other 2^200 steps."""
    content = b"}" + key + b"Ns"
    path = tf.write_zip_parts(tmp_path / "a.pth", content, {})
    assert "a dictionary key is neither a string nor a number" in refusal(read_tensors, path)


def test_a_memo_that_begins_at_its_end(tmp_path):
    """Python's unpickler in C would make room for 2^32 values."""
    path = tf.write_zip_parts(tmp_path / "a.pth", b"}r\xff\xff\xff\x7f", {})
    assert "holds no state dict" in refusal(read_tensors, path)


def test_booleans_that_share_one_byte_are_not_copied(tmp_path):
    one = tf.storage("0", "bool", 1)
    crowd = tf.mapping({f"x{i}": tf.tensor(one, 0, [1 << 20], [0]) for i in range(200)})
    path = tf.write_zip_parts(tmp_path / "a.pth", crowd, {"0": b"\1"})
    assert "the tensors would take 209715200 bytes" in refusal(read_tensors, path)


def test_an_index_as_long_as_memory(tmp_path):
    path = tf.write_zip(tmp_path / "a.pth", {"x": np.ones(4, np.float32)})
    raw = path.read_bytes()
    end = raw.rindex(b"PK\x05\x06")
    path.write_bytes(raw[: end + 12] + struct.pack("<I", 1 << 24) + bytes(1 << 24) + raw[end:])
    assert "damaged zip archive" in refusal(read_tensors, path)
    hole = raw[:end] + bytes(1 << 24) + raw[end:]
    at = hole.rindex(b"PK\x05\x06")
    path.write_bytes(hole[: at + 12] + struct.pack("<I", (1 << 24) + 1) + hole[at + 16 :])
    assert "an index of 16777217 bytes" in refusal(read_tensors, path)


def stored_twice(folder, times):
    """An archive of one compressed array under many names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        array = io.BytesIO()
        np.save(array, np.tile(np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8), 12))
        file.writestr("000000.npy", array.getvalue())
    raw = stream.getvalue()
    at = raw.index(b"PK\x01\x02")
    entry = raw[at : raw.index(b"PK\x05\x06")]
    index = b"".join(entry.replace(b"000000", b"%06d" % n) for n in range(times))
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, times, times, len(index), at, 0)
    (folder / "a.npz").write_bytes(raw[:at] + index + end)
    return folder / "a.npz"


def test_overlapping_entries_are_found_before_anything_is_unpacked(tmp_path):
    assert list(read_tensors(stored_twice(tmp_path, 1))) == ["000000"]
    assert "overlaps another entry" in refusal(read_tensors, stored_twice(tmp_path, 2000))


def test_many_entries_that_unpack_to_little_each(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        array = io.BytesIO()
        np.save(array, np.zeros(60_000, np.uint8))
        for n in range(2000):
            file.writestr(f"{n}.npy", array.getvalue())
    assert "the zip archive claims 120256000 bytes" in refusal(read_tensors, tmp_path / "a.npz")


@pytest.mark.parametrize(
    "name", ["two\nlines", "\x1b[2Jred", "half \udc80", "right\u202eleft", "x" * 20_000_000]
)
def test_odd_names_are_escaped_and_shortened(tmp_path, name):
    raw = name.encode("utf-8", "surrogatepass")
    key = b"X" + struct.pack("<I", len(raw)) + raw
    tensor = tf.contiguous(np.ones(4, np.float32), "0")
    content = b"}" + key + tensor + b"s"
    path = tf.write_zip_parts(tmp_path / "a.pth", content, {"0": bytes(16)})
    tensors = read_tensors(path)
    assert list(tensors) == [name]
    with pytest.raises(CheckpointError) as error:
        detect_network(tensors)
    message = str(error.value)
    assert message.isprintable() and len(message) <= 1 << 15 and "no known network has these" in message
