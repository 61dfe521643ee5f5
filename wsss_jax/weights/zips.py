"""The index of a zip archive, with every entry's place in the file, for PyTorch and NumPy archives.

`zipfile` would do for reading bytes; here the numbers are mapped where they lie, damaged archives must end in
one kind of error that tells the offset, and no entry may reach outside the file.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from wsss_jax.weights.files import WeightFile

MAGIC = b"PK\x03\x04"

_END = b"PK\x05\x06"
_END64_LOCATOR = b"PK\x06\x07"
_END64 = b"PK\x06\x06"
_ENTRY = b"PK\x01\x02"
_END_SIZE, _LOCATOR_SIZE, _ENTRY_SIZE, _LOCAL_SIZE = 22, 20, 46, 30
_MAX_COMMENT = 0xFFFF
_ESCAPE = 0xFFFFFFFF  # "see the zip64 field"
_STORED, _DEFLATED = 0, 8
# Weights compress by a tenth at best; an archive that claims much more is no archive of weights.
MAX_RATIO = 16
_SMALL = 1 << 16
_MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class Entry:
    """One file inside an archive: its bytes lie at `offset`, `stored` of them, `size` once unpacked."""

    name: str
    start: int  # offset of the header before the bytes
    offset: int
    stored: int
    size: int
    crc: int
    deflated: bool


def read_index(file: WeightFile) -> dict[str, Entry]:
    """Every entry by name.

    Raises:
      CheckpointError: cut-off or damaged archive, an encrypted entry, one name used twice, entries that share
        bytes, or that claim to unpack to far more than the file can hold.
    """
    at, size, count = _find_index(file)
    file.need(at, size, "the zip index")
    if count > min(_MAX_ENTRIES, size // _ENTRY_SIZE):
        raise file.error(at, f"the zip index claims {count} entries in {size} bytes")
    entries: dict[str, Entry] = {}
    for _ in range(count):
        start = at
        entry, at = _read_entry(file, at)
        if entry.name in entries:
            raise file.error(start, f"the zip entry {entry.name!r} occurs twice")
        entries[entry.name] = entry
    _check_extents(file, entries.values())
    return entries


def read_entry(file: WeightFile, entry: Entry, limit: int) -> bytes:
    """The unpacked content of an entry of at most `limit` bytes, its checksum verified.

    Raises:
      CheckpointError: longer than `limit` or than its packed size can justify, damaged, or wrong checksum.
    """
    if entry.size > min(limit, MAX_RATIO * entry.stored + _SMALL):
        raise file.error(entry.offset, f"{entry.name} claims {entry.size} bytes")
    raw = file.read(entry.offset, entry.stored, entry.name)
    if entry.deflated:
        raw = _inflate(file, entry, raw)
    if zlib.crc32(raw) != entry.crc:
        raise file.error(entry.offset, f"{entry.name} is damaged: its checksum does not fit")
    return raw


def verify_entry(file: WeightFile, entry: Entry, block: int = 1 << 22) -> None:
    """Raises CheckpointError if the checksum of a stored entry does not fit its bytes."""
    crc = 0
    for at in range(entry.offset, entry.offset + entry.stored, block):
        crc = zlib.crc32(file.data[at : min(at + block, entry.offset + entry.stored)], crc)
    if crc != entry.crc:
        raise file.error(entry.offset, f"{entry.name} is damaged: its checksum does not fit")


def _check_extents(file: WeightFile, entries: Iterable[Entry]) -> None:
    """Raises CheckpointError if entries overlap, so that few bytes unpack to many, or claim too much."""
    end, claimed = 0, 0
    for entry in sorted(entries, key=lambda entry: entry.start):
        if entry.start < end:
            raise file.error(entry.start, f"{entry.name!r} overlaps another entry of the zip archive")
        end, claimed = entry.offset + entry.stored, claimed + entry.size
    if claimed > MAX_RATIO * file.size + _SMALL:
        raise file.error(0, f"the zip archive claims {claimed} bytes, the file has {file.size}")


def _inflate(file: WeightFile, entry: Entry, raw: bytes) -> bytes:
    unpacker = zlib.decompressobj(-15)
    try:
        content = unpacker.decompress(raw, entry.size + 1)
    except zlib.error as error:
        raise file.error(entry.offset, f"{entry.name} cannot be unpacked: {error}") from error
    if len(content) != entry.size:
        raise file.error(entry.offset, f"{entry.name} unpacks to another length than {entry.size} bytes")
    return content


def _find_index(file: WeightFile) -> tuple[int, int, int]:
    """(offset, size, number of entries) of the index."""
    first = max(0, file.size - _END_SIZE - _MAX_COMMENT)
    end = file.data[first:].rfind(_END)
    if end < 0 or first + end + _END_SIZE > file.size:
        raise file.error(file.size, "the zip archive has no end record (cut off or damaged file)")
    end += first
    disk, _, _, count, size, at = struct.unpack_from("<4H2I", file.data, end + 4)
    locator = end - _LOCATOR_SIZE
    if locator >= 0 and file.data[locator : locator + 4] == _END64_LOCATOR:
        return _find_index64(file, locator)
    if disk != 0:
        raise file.error(end, "the zip archive is one part of several")
    return at, size, count


def _find_index64(file: WeightFile, locator: int) -> tuple[int, int, int]:
    (end,) = file.unpack("<Q", locator + 8, "the zip64 locator")
    if file.read(end, 4, "the zip64 end record") != _END64:
        raise file.error(end, "the zip64 end record is missing")
    count, size, at = file.unpack("<3Q", end + 32, "the zip64 end record")
    return at, size, count


def _read_entry(file: WeightFile, at: int) -> tuple[Entry, int]:
    if file.read(at, 4, "a zip index entry") != _ENTRY:
        raise file.error(at, "damaged zip index")
    flags, method = file.unpack("<2H", at + 8, "a zip index entry")
    crc, stored, size, name_size, extra_size, comment_size = file.unpack(
        "<3I3H", at + 16, "a zip index entry"
    )
    (local,) = file.unpack("<I", at + 42, "a zip index entry")
    name = _decode(file, at + _ENTRY_SIZE, name_size)
    extra = file.read(at + _ENTRY_SIZE + name_size, extra_size, "a zip index entry")
    size, stored, local = _zip64(file, at, extra, (size, stored, local))
    if flags & 1:
        raise file.error(at, f"{name!r} is encrypted")
    if method not in (_STORED, _DEFLATED) or (method == _STORED and stored != size):
        raise file.error(at, f"{name!r} is packed in an unknown way ({method})")
    offset = _content_offset(file, local, name)
    file.need(offset, stored, repr(name))
    following = at + _ENTRY_SIZE + name_size + extra_size + comment_size
    return Entry(name, local, offset, stored, size, crc, method == _DEFLATED), following


def _decode(file: WeightFile, at: int, size: int) -> str:
    try:
        return file.read(at, size, "a zip entry's name").decode()
    except UnicodeDecodeError as error:
        raise file.error(at + error.start, "a zip entry's name is not UTF-8") from error


def _zip64(file: WeightFile, at: int, extra: bytes, fields: tuple[int, int, int]) -> list[int]:
    """Replaces those of (size, stored, local) that are escaped by the numbers of the zip64 extra field."""
    wide: list[int] = []
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        body = extra[place + 4 : place + 4 + length]
        if kind == 1:
            wide = [number for (number,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
        place += 4 + length
    result = []
    for field in fields:
        if field == _ESCAPE:
            if not wide:
                raise file.error(at, "a zip entry lacks its zip64 field")
            field = wide.pop(0)
        result.append(field)
    return result


def _content_offset(file: WeightFile, local: int, name: str) -> int:
    if file.read(local, 4, repr(name)) != MAGIC:
        raise file.error(local, f"no entry of the zip archive begins here, where {name!r} should be")
    name_size, extra_size = file.unpack("<2H", local + 26, repr(name))
    return local + _LOCAL_SIZE + name_size + extra_size
