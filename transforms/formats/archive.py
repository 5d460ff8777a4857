"""Members of a tar archive, in a stream, with every kind of damage noticed.

`tarfile` ends an archive in silence at a header that it cannot read, at a cut header
and where the mark of the end is missing; each of these would lose images unseen. Here
the framing is our own, and `tarfile` reads the fields of all but the plainest headers.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .record import DamagedShardError
from .stream import Stream

_BLOCK = 512
_LARGEST_HEADER = 1 << 24
_OCTAL = frozenset(b"01234567")
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_NO_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)

# Offsets of the byte that says that another block of the map of a sparse file follows:
# in the header, and in such a block (GNU tar, tar.h).
_SPARSE_MORE = 482
_SPARSE_MORE_AGAIN = 504


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive.

    Attributes:
      name: With its folders; bytes that are not UTF-8 are backslash escapes.
      begin: Byte at which its headers begin, so that reading may begin there; None
        where it needs more: the archive is packed, or has headers that are for all.
      sparse: Its data are a map of holes and pieces, not the file's bytes.
    """

    name: str
    begin: int | None
    sparse: bool


class Archive:
    """Iterates over the members; each can be read until the next is asked for.

    Archives written one after the other into one file count as one.

    Raises (iterating, or reading):
      DamagedShardError: The archive is cut off or corrupt here.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._name = ""
        self._left = 0
        self._padding = 0
        self._extra: dict[str, str] = {}
        self._extra_for_all: dict[str, str] = {}

    def __iter__(self) -> Iterator[Member]:
        begin: int | None = None
        while True:
            self._finish()
            offset = self._stream.position
            begin = offset if begin is None else begin
            header = self._next_header()
            if header is None:
                return
            info = _parse(header, offset=offset)
            if self._is_extension(info, offset=offset):
                continue
            alone = not self._stream.packed and not self._extra_for_all
            sparse = self._begin(info, header=header, offset=offset)
            if info.type in tarfile.REGULAR_TYPES:
                yield Member(self._name, begin if alone else None, sparse)
            begin = None

    def read(self, member: Member) -> bytes:
        """All bytes of the member that the iteration is at."""
        data = self._stream.read(self._left)
        self._left -= len(data)
        if self._left:
            raise self._cut_off()
        return data

    def _finish(self) -> None:
        self._left -= self._stream.skip(self._left)
        self._padding -= self._stream.skip(self._padding)
        if self._left or self._padding:
            raise self._cut_off()

    def _cut_off(self) -> DamagedShardError:
        return DamagedShardError(
            "truncated_shard",
            f"the archive ends at byte {self._stream.position:,}, inside of member"
            f" {self._name!r}",
        )

    def _next_header(self) -> bytes | None:
        """The next block that is not zero; None at the end of the archive."""
        ended = self._stream.position == 0
        while True:
            offset = self._stream.position
            block = self._stream.read(_BLOCK)
            if not block and ended:
                return None
            if not block:
                raise DamagedShardError(
                    "truncated_shard",
                    f"the archive ends at byte {offset:,} without the mark of its end",
                )
            if block.count(0) == len(block):
                ended = True
            elif len(block) < _BLOCK:
                raise DamagedShardError(
                    "truncated_shard",
                    f"the archive ends inside of the header at byte {offset:,}",
                )
            else:
                return block

    def _begin(self, info: "_Header", *, header: bytes, offset: int) -> bool:
        """Comes to a member's data; returns whether they are sparse."""
        extra = {**self._extra_for_all, **self._extra}
        self._extra = {}
        sparse = info.type == tarfile.GNUTYPE_SPARSE
        more = sparse and header[_SPARSE_MORE]
        while more:
            more = self._data(_BLOCK, name=info.name)[_SPARSE_MORE_AGAIN]
        sparse |= any(name.startswith("GNU.sparse.") for name in extra)
        size = _size(info, extra=extra, offset=offset)
        self._name = extra.get("GNU.sparse.name") or extra.get("path") or info.name
        self._left = 0 if info.type in _NO_DATA else size
        self._padding = -self._left % _BLOCK
        return sparse

    def _is_extension(self, info: "_Header", *, offset: int) -> bool:
        """Takes in a header that is about the next one, or about all that follow."""
        kinds = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        if info.type not in (*kinds, *_PAX_TYPES, tarfile.XGLTYPE):
            return False
        if not 0 <= info.size <= _LARGEST_HEADER:
            raise _corrupt(offset, why=f"an extended header of {info.size:,} bytes")
        data = self._data(info.size, name=info.name)
        self._data(-info.size % _BLOCK, name=info.name)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            self._extra["path"] = _text(data.split(b"\0", 1)[0])
        elif info.type in _PAX_TYPES:
            self._extra.update(_pax_fields(data, offset=offset))
        elif info.type == tarfile.XGLTYPE:
            self._extra_for_all.update(_pax_fields(data, offset=offset))
        return True

    def _data(self, size: int, *, name: str) -> bytes:
        self._name = name
        data = self._stream.read(size)
        if len(data) < size:
            raise self._cut_off()
        return data


class _Header(NamedTuple):
    """The fields of a header that count here, as `tarfile` reads them."""

    name: str
    type: bytes
    size: int


def _parse(header: bytes, *, offset: int) -> _Header:
    if usual := _parse_usual(header):
        return usual
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        raise _corrupt(offset, why=str(error)) from error
    return _Header(info.name, info.type, info.size)


def _parse_usual(header: bytes) -> _Header | None:
    """The header of a plain file, its numbers octal; of another kind, or damaged: None.

    `tarfile` reads all fields of a header, which takes a third of the time of reading
    a shard, and holds the GIL, which the decoder's threads need. Where the fields lie
    is POSIX.1-2001's, ustar.
    """
    size, checksum = header[124:136].rstrip(b"\0 "), header[148:156].rstrip(b"\0 ")
    is_usual = header[156:157] == tarfile.REGTYPE and header[257:262] == b"ustar"
    if not (is_usual and _OCTAL.issuperset(size) and _OCTAL.issuperset(checksum)):
        return None
    # The checksum is that of the header with blanks in its own place.
    if sum(header) - sum(header[148:156]) + sum(b" " * 8) != int(checksum or b"0", 8):
        return None
    name, prefix = _until_zero(header[:100]), _until_zero(header[345:500])
    return _Header(
        f"{prefix}/{name}" if prefix else name, tarfile.REGTYPE, int(size or b"0", 8)
    )


def _until_zero(field: bytes) -> str:
    return _text(field.partition(b"\0")[0])


def _size(info: _Header, *, extra: dict[str, str], offset: int) -> int:
    text = extra.get("size", str(info.size))
    # The field can be negative, in its binary form.
    if not text.isdecimal():
        raise _corrupt(offset, why=f"a size of {text}")
    return int(text)


def _pax_fields(data: bytes, *, offset: int) -> dict[str, str]:
    """Parses records of `<length> <name>=<value>\\n` (POSIX.1-2001, pax)."""
    fields = {}
    while data.strip(b"\0"):
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0
        name, equals, value = data[len(digits) + 1 : length].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise _corrupt(offset, why="an extended header that cannot be read")
        fields[_text(name)] = _text(value[:-1])
        data = data[length:]
    return fields


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _corrupt(offset: int, *, why: str) -> DamagedShardError:
    return DamagedShardError(
        "corrupt_shard", f"no member can be read at byte {offset:,}: {why}"
    )
