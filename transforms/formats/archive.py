"""Members of a tar archive, in a stream, with every kind of damage noticed.

`tarfile` ends an archive in silence at a header that it cannot read, at a cut header
and where the mark of the end is missing; each of these would lose images unseen. Here
the framing is our own, and `tarfile` only reads the fields of a header.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .record import DamagedShardError
from .stream import Stream

_BLOCK = 512
_LARGEST_HEADER = 1 << 24
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
      size: Bytes as the header says; the archive may end before.
      begin: Byte at which its headers begin, so that reading may begin there; None
        where it needs more: the archive is packed, or has headers that are for all.
      sparse: Its data are a map of holes and pieces, not the file's bytes.
    """

    name: str
    size: int
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
            member = self._begin(info, header=header, offset=offset)
            if info.isreg():
                yield replace(member, begin=begin if alone else None)
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

    def _begin(self, info: tarfile.TarInfo, *, header: bytes, offset: int) -> Member:
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
        return Member(self._name, size, None, sparse)

    def _is_extension(self, info: tarfile.TarInfo, *, offset: int) -> bool:
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


def _parse(header: bytes, *, offset: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        raise _corrupt(offset, why=str(error)) from error


def _size(info: tarfile.TarInfo, *, extra: dict[str, str], offset: int) -> int:
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
