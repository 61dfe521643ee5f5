"""Reads damaged weight files by the thousand: each must be read or refused, soon and frugally.

`python -m tests.weights.fuzz [--count=20000] [--seed=0] [--formats=mxnet,...]` damages small sound files by
flipped and overwritten bytes, edited length fields, cut ends, pieces moved or doubled, and pieces of other
files; in zip archives also inside an entry, with a checksum that fits, so that the damage gets past the
archive.
"""

import argparse
import io
import random
import resource
import signal
import struct
import tempfile
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN, names, state_dict
from wsss_jax.errors import CheckpointError
from wsss_jax.weights import detect_network, read_tensors, to_variables
from wsss_jax.weights.npz_files import write_npz
from wsss_jax.weights.safetensors_files import write_safetensors

FORMATS = ("mxnet", "torch-zip", "torch-legacy", "safetensors", "npz")
SECONDS = 5.0  # of the processor, for one file of a few kilobytes
LIMIT = 2 << 30  # more address space than this beyond the start is a failure
# What reading may allocate: the arrays may have 8 times the file's bytes, Python objects about 100 bytes for
# one.
BYTES_PER_BYTE, BYTES = 128, 8 << 20
LENGTHS = (
    0,
    1,
    2,
    3,
    7,
    8,
    0x7F,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


class Stuck(BaseException):
    """A file took too long; no ValueError, so that nothing catches it."""


def seeds(form: str, folder: Path) -> list[bytes]:
    """Small sound files."""
    small = {
        "a.weight": np.ones((2, 3), np.float32),
        "a.bias": np.arange(4.0),
        "n": np.array(3),
        "e": np.ones((0, 2)),
    }
    if form == "mxnet":
        paths = [p for p in (GOLDEN / "mxnet").glob("*.params") if 0 < p.stat().st_size < 2000]
    elif form == "torch-zip":
        paths = [p for p in (GOLDEN / "torch").glob("*.pth") if zipfile.is_zipfile(p)]
        paths.append(tf.write_zip(folder / "big.pth", small, big_endian=True))
    elif form == "torch-legacy":
        paths = list((GOLDEN / "torch").glob("*legacy*.pth"))
        paths.append(tf.write_legacy(folder / "x.pth", state_dict("dev", names("resnet38_cls", 4096))))
    elif form == "safetensors":
        write_safetensors(folder / "x", small, {"network": "x"})
        write_safetensors(folder / "y", {"h": np.ones(3, np.float16), "b": np.ones(3, tf.BFLOAT16)})
        paths = [folder / "x", folder / "y"]
    else:
        write_npz(folder / "x", small)
        np.savez_compressed(folder / "y.npz", **small, f=np.ones((3, 2), ">f4", order="F"))
        paths = [folder / "x", folder / "y.npz"]
    return [path.read_bytes() for path in sorted(paths)]


def damage(raw: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four changes."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice((_flip, _flip, _overwrite, _length, _length, _cut, _move, _splice))(data, others, rng)
    return bytes(data)


def damage_entry(raw: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Changes one entry of a zip archive and writes an archive whose checksums fit."""
    result = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(result, "w") as target:
            victim = rng.choice([name for name in source.namelist() if name.endswith((".pkl", ".npy"))])
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, damage(content, others, rng) if name == victim else content)
    except zipfile.BadZipFile:
        return damage(raw, others, rng)
    return result.getvalue()


def _at(data: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(data)) if data else 0


def _flip(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[_at(data, rng)] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _at(data, rng)
    size = rng.choice((1, 2, 4, 16))
    data[at : at + size] = rng.randbytes(size)


def _length(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    at = _at(data, rng)
    value = rng.choice((*LENGTHS, rng.getrandbits(16), len(data)))
    raw = struct.pack("<Q", value)[: rng.choice((1, 2, 4, 8))]
    data[at : at + len(raw)] = raw


def _cut(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    del data[_at(data, rng) :]


def _move(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    start, to = _at(data, rng), _at(data, rng)
    piece = data[start : start + rng.choice((1, 4, 16, 64, 256))]
    if rng.random() < 0.5:
        del data[start : start + len(piece)]
    data[to:to] = piece


def _splice(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    other = rng.choice(others)
    start, to = rng.randrange(len(other)), _at(data, rng)
    piece = other[start : start + rng.choice((1, 8, 64, 512))]
    data[to : to + (len(piece) if rng.random() < 0.5 else 0)] = piece


def read_one(path: Path, verify: bool) -> str:
    """Reads a file, touches every number, looks for the network; returns what came of it.

    Raises:
      AssertionError: more memory was used than the file's size justifies.
    """
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        tensors = read_tensors(path, verify=verify)
        for value in tensors.values():
            np.array(value)
        outcome = "read"
        to_variables(tensors, detect_network(tensors))
        outcome = "read and mapped"
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(str(path)) or message.startswith("tensors"), message
        assert len(message) < 100_000, message[:200]
        outcome = "refused" if "offset" in message else "read"
    used = tracemalloc.get_traced_memory()[1] - before
    assert used <= BYTES_PER_BYTE * path.stat().st_size + BYTES, f"{used} bytes for {path.stat().st_size}"
    return outcome


def fuzz(form: str, count: int, seed: int, folder: Path) -> Counter:
    """Reads `count` damaged files; returns how often each thing happened.

    Raises:
      Any error but CheckpointError that reading ends in, Stuck, or AssertionError; the file is left in
      `folder`.
    """
    rng = random.Random(f"{form} {seed}")
    sound = seeds(form, folder)
    outcomes: Counter = Counter()
    path = folder / f"damaged-{form}"
    previous = signal.signal(signal.SIGPROF, _stuck)
    tracemalloc.start()
    try:
        for _ in range(count):
            inside = form in ("torch-zip", "npz") and rng.random() < 0.5
            path.write_bytes((damage_entry if inside else damage)(rng.choice(sound), sound, rng))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            outcomes[read_one(path, verify=rng.random() < 0.5) if path.stat().st_size else "empty"] += 1
            signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        tracemalloc.stop()
    return outcomes


def _stuck(*_: object) -> None:
    raise Stuck


def main() -> None:
    """Fuzzes every format and prints the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(FORMATS))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, hard))
    folder = Path(tempfile.mkdtemp(prefix="fuzz."))
    for form in options.formats.split(","):
        start = time.perf_counter()
        outcomes = fuzz(form, options.count, options.seed, folder)
        seconds = time.perf_counter() - start
        print(f"{form:12}  {dict(sorted(outcomes.items()))}  {seconds:.0f} s", flush=True)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


if __name__ == "__main__":
    main()
