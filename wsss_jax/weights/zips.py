"""Zip archives of weights, opened so that neither their index nor an entry can fill the memory.

`zipfile` reads them; beside it are the checks that it does not make: entries that share bytes, that claim to
unpack to far more than the file can hold, an index as long as memory, and where the bytes of stored entries
lie, which are mapped.
"""

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

from wsss_jax.errors import CheckpointError
from wsss_jax.weights.files import WeightFile

MAGIC = b"PK\x03\x04"

# Weights compress by a tenth at best; an archive that claims much more is no archive of weights.
_MAX_RATIO = 16
_SMALL = 1 << 16
_MAX_INDEX = 1 << 23  # bytes, some hundred for an entry
_BLOCK = 1 << 20
_LOCAL_SIZE = 30  # of the header before an entry's name
# What zipfile may raise; RuntimeError is for encrypted entries, NotImplementedError for other compression.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError)


class Archive:
    """An archive's entries by name, in the order of its index."""

    def __init__(self, file: WeightFile, archive: zipfile.ZipFile):
        """CheckpointError if an entry cannot be read, shares bytes with another or claims too much."""
        self.file, self._archive = file, archive
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        if len(self.entries) < len(archive.infolist()):
            raise file.error(archive.start_dir, "a name occurs twice in the zip archive")
        end, claimed = 0, 0
        for entry in sorted(self.entries.values(), key=lambda entry: entry.header_offset):
            start, name = entry.header_offset, repr(entry.filename)
            if start < end:
                raise file.error(start, f"{name} overlaps another entry of the zip archive")
            if entry.flag_bits & 1:
                raise file.error(start, f"{name} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise file.error(start, f"{name} is packed in an unknown way ({entry.compress_type})")
            file.need(self.place(entry), entry.compress_size, name)
            end, claimed = self.place(entry) + entry.compress_size, claimed + entry.file_size
        if claimed > _MAX_RATIO * file.size + _SMALL:
            raise file.error(0, f"the zip archive claims {claimed} bytes, the file has {file.size}")

    def place(self, entry: zipfile.ZipInfo) -> int:
        """Offset of its bytes, behind a header that has its own lengths of name and extra field."""
        start = entry.header_offset
        signature, *sizes = self.file.unpack("<4s22x2H", start, repr(entry.filename))
        if signature != MAGIC:
            raise self.file.error(start, f"no zip entry begins here, where {entry.filename!r} should be")
        return start + _LOCAL_SIZE + sum(sizes)

    def read(self, entry: zipfile.ZipInfo) -> bytes:
        """Its unpacked content, the checksum compared; CheckpointError if it is damaged or encrypted."""
        return b"".join(self._blocks(entry))

    def verify(self, entry: zipfile.ZipInfo) -> None:
        """Raises CheckpointError if the checksum of an entry does not fit its bytes."""
        for _ in self._blocks(entry):
            pass

    def _blocks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        left = entry.file_size
        with _damage_told(self.file, entry.header_offset), self._archive.open(entry) as stream:
            while left:  # with its size, since zipfile would unpack all that is there in the last block
                block = stream.read(min(left, _BLOCK))
                if not block:
                    raise EOFError(f"{entry.filename!r} is shorter than it claims")
                left -= len(block)
                yield block


def is_mapped(entry: zipfile.ZipInfo) -> bool:
    """Whether its bytes can be used where they lie."""
    return entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size


@contextlib.contextmanager
def open_archive(file: WeightFile, local: str) -> Iterator[Archive]:
    """Opens the archive in a mapped file, given its path too.

    Raises:
      CheckpointError: cut-off or damaged archive, one name used twice, entries that share bytes, or that
        claim to unpack to far more than the file can hold.
    """
    with contextlib.ExitStack() as stack:
        with _damage_told(file, file.size):
            stream = stack.enter_context(_Stream(local))
            archive = stack.enter_context(zipfile.ZipFile(stream))
        yield Archive(file, archive)


class _Stream(io.FileIO):
    """A file of which `zipfile` cannot read an endless index in one piece."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_INDEX:
            raise zipfile.BadZipFile(f"an index of {size} bytes")
        return super().read(size)


@contextlib.contextmanager
def _damage_told(file: WeightFile, offset: int) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise file.error(offset, f"cut-off or damaged zip archive: {error}") from error
