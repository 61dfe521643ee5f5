"""Maps made to harm: each is one refused map, soon and in little memory, and no code of it is run."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from wsss_jax.data.class_maps import read_maps
from wsss_jax.errors import DataError

SIZE = (5, 7)
CAM = np.full(SIZE, 0.5, np.float32)
SECONDS, BYTES = 5.0, 64 << 20


def npy(pickled, folder):
    """An .npy file of a pickle, as `numpy.save` writes dictionaries."""
    stream = io.BytesIO()
    np.save(stream, np.array({}, dtype=object), allow_pickle=True)
    header = stream.getvalue()[: 10 + int.from_bytes(stream.getvalue()[8:10], "little")]
    (folder / "a.npy").write_bytes(header + pickled)
    return folder / "a.npy"


def of(content):
    return pickle.dumps(np.array(content, dtype=object), 2)


class Call:
    """Pickled as a call of a global that readers of maps know, with any arguments."""

    def __init__(self, function, *arguments, state=None):
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.value


RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float32(1).__reduce__()[0]


def array(shape, kind="f4", content=b"", order="<"):
    """An array's pickle with any state."""
    dtype = Call(np.dtype, kind, False, True, state=(3, order, None, None, None, -1, -1, 0))
    return Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


def nested(depth):
    """b'...' of a pickle of {1: t} where t is a tuple of twice the same tuple, and so on: 2^depth numbers."""
    pair = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(depth))
    return b"\x80\x02}(K\x01" + b"G" + struct.pack(">d", 0.5) + pair + b"u."


def huge_integer():
    raw = b"\x7f" * 1_000_000
    return b"\x8b" + struct.pack("<I", len(raw)) + raw


def with_huge_shape(dimensions):
    """An array whose shape's extents are integers of a megabyte each."""
    pickled = pickle.dumps(array(("X",), content=b"x" * 16), 2)
    mark = b"X\x01\x00\x00\x00X"
    assert pickled.count(mark) == 1
    place = pickled.index(mark)
    end = pickled.index(b"\x85", place)
    shape = b"(" + huge_integer() + b"q\xf0" + b"h\xf0" * (dimensions - 1) + b"t"
    return b"\x80\x02}(K\x01" + pickled[2:place] + shape + pickled[end + 1 : -1] + b"u."


def copied_again_and_again():
    """A text of 100,000 letters that `_codecs.encode` is to copy 100,000 times."""
    text = b"X" + struct.pack("<I", 100_000) + b"x" * 100_000 + b"q\x01"
    one = b"c_codecs\nencode\nq\x02h\x01X\x06\x00\x00\x00latin1q\x03\x86R"
    return b"\x80\x02}(" + text + b"K\x01" + one + b"h\x02h\x01h\x03\x86R" * 200_000 + b"u."


PICKLES = {
    "a type that is none": of({1: array((5, 7), "f1", b"x" * 35)}),
    "a boolean type of two bytes": of({1: array((5, 7), "b2", b"x" * 70)}),
    "too few arguments": of({1: Call(np.dtype)}),
    "too many arguments": of({1: Call(SCALAR, np.dtype("f4"), b"abcd", 1, 2, 3)}),
    "arguments of other types": of({1: Call(SCALAR, 1, 2)}),
    "no type": of({1: array((5, 7), None)}),
    "None for maps": of({1: None}),
    "None for a class": of({None: CAM}),
    "None for a shape": of({1: array(None)}),
    "None for everything": b"\x80\x02N.",
    "None for IRN's maps": of({"keys": None, "high_res": None}),
    "an infinite class": of({float("inf"): CAM}),
    "a class that is no number": of({float("nan"): CAM}),
    "a fractional class": of({1.5: CAM}),
    "a huge class": of({1 << 63: CAM}),
    "a class of a million digits": b"\x80\x02}(" + huge_integer() + b"Nu.",
    "fractional classes of IRN": of({"keys": np.array([0.5]), "high_res": CAM[None]}),
    "shared tuples": nested(40),
    "a shape of huge integers": with_huge_shape(4),
    "a shape of many huge integers": with_huge_shape(1000),
    "a negative shape": of({1: array((-5, -7), content=b"x" * 140)}),
    "a map under a thousand classes": of(dict.fromkeys(range(1000), CAM)),
    "a text copied again and again": copied_again_and_again(),
    "text beyond Latin-1": of({1: Call(__import__("_codecs").encode, "\u20ac", "latin1")}),
    "deep nesting": b"\x80\x02" + b"(" * 50_000,
}


def refusal(path):
    """The one line that says why, after less than a few seconds and megabytes."""
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            read_maps(path, "a", SIZE)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < SECONDS
    message = str(error.value)
    assert message.isprintable() and "'a'" in message and path.name in message and len(message) < 2000
    return message


@pytest.mark.parametrize("what", PICKLES)
def test_hostile_pickles(tmp_path, what):
    assert "a.npy" in refusal(npy(PICKLES[what], tmp_path))


def header(shape, descr="<f4"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(folder, cam, keys=None, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    np.save(stream, np.array([1], np.int32))
    with zipfile.ZipFile(folder / "a.npz", "w", compression) as file:
        file.writestr("keys.npy", stream.getvalue() if keys is None else keys)
        file.writestr("cam.npy", cam)
    return folder / "a.npz"


@pytest.mark.parametrize(
    "cam",
    [
        header("(1000, 10000, 10000)"),  # 373 GB
        header("(1, 5, 7)") + b"x" * 10,
        header("(-1, 5, 7)") + b"x" * 140,
        header("(99999999999999999999, 5, 7)"),
        header("(1, 5, 7)", "<f1") + b"x" * 35,
        header("(1, 5, 7)", "|O") + b"x" * 280,
        header("(" * 3000),
        header("(1, 5, 7") + b"x" * 140,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"x" * 99,
        b"\x93NUMPY\x09\x00" + b"x" * 99,
        b"",
    ],
)
def test_hostile_headers(tmp_path, cam):
    refusal(archive(tmp_path, cam))


def test_an_encrypted_entry(tmp_path):
    path = archive(tmp_path, header("(1, 5, 7)") + bytes(140))
    raw = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.rindex(signature) + flags] |= 1
    path.write_bytes(raw)
    refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, method):
    path = archive(tmp_path, header("(1, 5, 7)") + bytes(140), compression=method)
    path.write_bytes(path.read_bytes().replace(bytes(20), b"\xff" * 20))
    refusal(path)


def test_a_compressed_bomb_is_not_unpacked(tmp_path):
    zeros = b"\0" * (100 << 20)
    refusal(
        archive(tmp_path, header(f"(1, 5, {len(zeros) // 20})") + zeros, compression=zipfile.ZIP_DEFLATED)
    )


def test_a_bomb_that_claims_to_be_small(tmp_path):
    """Python's zipfile unpacks all that is there before it looks at the length."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = bomb.compress(b"\0" * (100 << 20)) + bomb.flush()
    path = archive(tmp_path, packed)
    raw = path.read_bytes()
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = raw.rindex(signature)
        raw = raw[: at + place] + struct.pack("<H", zipfile.ZIP_DEFLATED) + raw[at + place + 2 :]
        at += place + 14
        raw = raw[:at] + struct.pack("<I", 200) + raw[at + 4 :]
    path.write_bytes(raw)
    refusal(path)
