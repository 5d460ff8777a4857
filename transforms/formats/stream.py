"""A shard's bytes from front to back, unpacked where they are gzip."""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .record import DamagedShardError

_GZIP_MAGIC = b"\x1f\x8b\x08"
_HEAD = 12
_PACKED_CHUNK = 1 << 18
_UNPACKED_CHUNK = 1 << 20

_LARGEST_READ = 1 << 24
"""A file's `read(n)` may allocate n bytes before it knows that they are there, so a
size out of a damaged header is asked for in pieces."""


class Stream:
    """Reads an opened file forward, and says where it is.

    What the file itself raises passes through unchanged.

    Attributes:
      position: Bytes read so far, counted after unpacking.
      packed: Whether the file is gzip, by its first bytes.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        start: int = 0,
        is_plain: Callable[[bytes], bool] = lambda head: False,
    ) -> None:
        """Looks at the file's first bytes.

        Args:
          file: Opened for reading, at its start.
          start: Byte to begin at; only of a file that is not packed.
          is_plain: Tells from up to 12 first bytes that look like gzip that they are
            not, for formats where data may happen to begin like that.
        """
        self.position = start
        if start:
            file.seek(start)
        self._chunk = _read_full(file, size=_HEAD)
        self._start = 0
        self._more: Callable[[int], bytes] = file.read
        self.packed = _is_gzip(self._chunk) and not is_plain(self._chunk)
        if self.packed:
            self._more = _Gunzip(file.read, head=self._chunk).read
            self._chunk = b""

    def read(self, size: int) -> bytes:
        """Reads `size` bytes; fewer only where the file ends.

        Raises:
          DamagedShardError: The gzip data is cut off or corrupt before that.
        """
        pieces: list[bytes] = []
        while size > 0:
            if self._start == len(self._chunk):
                self._chunk = self._more(min(size, _LARGEST_READ))
                self._start = 0
                if not self._chunk:
                    break
            piece = self._chunk[self._start : self._start + size]
            pieces.append(piece)
            size -= len(piece)
            self._start += len(piece)
            self.position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; returns how many there were."""
        begin = self.position
        end = begin + size
        while self.position < end:
            if not self.read(min(end - self.position, _UNPACKED_CHUNK)):
                break
        return self.position - begin


class _Gunzip:
    """Unpacks gzip data, of one member or several.

    Unlike `gzip.GzipFile` it gives all bytes in front of the damage before it raises,
    and cannot take an OSError of the storage for one of the data.
    """

    def __init__(self, read: Callable[[int], bytes], *, head: bytes) -> None:
        self._read = read
        self._packed = head
        self._taken = 0
        self._inflate = zlib.decompressobj(wbits=31)
        self._inside = True
        self._damage: DamagedShardError | None = None

    def read(self, size: int) -> bytes:
        """Gives the next bytes, some at least unless all has been read."""
        while True:
            if self._damage:
                raise self._damage
            self._packed = self._packed or self._read(_PACKED_CHUNK)
            ended = not self._packed
            if not self._inside:
                self._begin_member()
            if ended and not self._inside:
                return b""
            # The last bytes may still be inside when all input has been taken.
            data = self._step() if self._inside else b""
            if data:
                return data
            if ended and self._inside:
                raise DamagedShardError(
                    "truncated_shard",
                    f"the gzip data is cut off after {self._taken:,} packed bytes",
                )

    def _begin_member(self) -> None:
        # gzip and tape tools pad with zeros.
        padding = len(self._packed) - len(self._packed.lstrip(b"\0"))
        self._taken += padding
        self._packed = self._packed[padding:]
        if self._packed:
            self._inflate = zlib.decompressobj(wbits=31)
            self._inside = True

    def _step(self) -> bytes:
        before = self._inflate.copy()
        size = len(self._packed)
        try:
            data = self._inflate.decompress(self._packed, _UNPACKED_CHUNK)
        except zlib.error as error:
            data = b"".join(self._salvage(before))
            self._damage = DamagedShardError(
                "corrupt_shard",
                f"the gzip data is corrupt after packed byte {self._taken:,}: {error}",
            )
            return data
        self._packed = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self._packed = self._inflate.unused_data
            self._inside = False
        self._taken += size - len(self._packed)
        return data

    def _salvage(self, inflate: "zlib._Decompress") -> Iterator[bytes]:
        """What precedes the damage: zlib drops it if the same call ends in an error."""
        with contextlib.suppress(zlib.error):
            for at in range(len(self._packed)):
                yield inflate.decompress(self._packed[at : at + 1])


def _is_gzip(head: bytes) -> bool:
    return head != b"" and head[:3] == _GZIP_MAGIC[: len(head)]


def _read_full(file: BinaryIO, *, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return data
