"""References to shards, small enough for the graph that is sent to a runner.

`beam.Create` writes its values into the graph three times, each element for itself: a
million image files are 45 MB there, and services refuse graphs of that size. Here they
are written once, by columns and in chunks, which a worker unpacks one at a time.
"""

import itertools
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from .file import File
from .files import facts
from .shard import Shard

_CHUNK = 4096
"""Files of a chunk, and stems; a shard is never cut."""

_AT_FIRST = (0, 0)


def pack_shards(shards: Iterable[Shard]) -> tuple[bytes, ...]:
    """Packs shards into chunks, as they come."""
    return tuple(map(_pack, _columns(shards)))


def unpack_shards(packed: bytes) -> Iterator[Shard]:
    """Gives the shards of a chunk."""
    uris, formats, counts, done, starts, names, sizes, times = _unpack(packed)
    files = map(File, _whole(names), sizes, _times(times))
    for uri, form, count, parts, start in zip(
        _whole(uris), formats, counts, done, starts, strict=True
    ):
        members = tuple(itertools.islice(files, count))
        yield Shard(uri, form, members, frozenset(parts), *start)


def pack_stems(stems: Sequence[str]) -> tuple[bytes, ...]:
    """Packs the names of parts into chunks."""
    return tuple(
        _pack(stems[first : first + _CHUNK]) for first in range(0, len(stems), _CHUNK)
    )


def unpack_stems(packed: bytes) -> Iterator[str]:
    """Gives the names of a chunk."""
    yield from _unpack(packed)


class UnpackShards(beam.DoFn):
    """An impulse in, the shards out.

    Args:
      chunks: Of `pack_shards`.
    """

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self._chunks = chunks

    def process(self, impulse: bytes) -> Iterator[Shard]:
        for chunk in self._chunks:
            yield from unpack_shards(chunk)


class UnpackStems(beam.DoFn):
    """An impulse in, the names of parts out.

    Args:
      chunks: Of `pack_stems`.
    """

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self._chunks = chunks

    def process(self, impulse: bytes) -> Iterator[str]:
        for chunk in self._chunks:
            yield from unpack_stems(chunk)


@dataclass
class _Chunk:
    """Columns of some shards and of their files.

    Nothing of a shard is kept but text and numbers: thousands of small objects more
    would have the garbage collector go over all that the program holds, again and
    again.
    """

    uris: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    done: list[Sequence[int]] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, shard: Shard) -> None:
        self.uris.append(shard.uri)
        self.formats.append(shard.format)
        self.counts.append(len(shard.files))
        self.done.append(sorted(shard.done_parts) if shard.done_parts else ())
        begun = shard.start_row or shard.start_offset
        start = (shard.start_row, shard.start_offset) if begun else _AT_FIRST
        self.starts.append(start)
        for uri, size, updated in facts(shard.files):
            self.names.append(uri)
            self.sizes.append(size)
            self.times.append(updated)

    def columns(self) -> list[object]:
        return [
            _short(self.uris),
            self.formats,
            self.counts,
            self.done,
            self.starts,
            _short(self.names),
            self.sizes,
            _steps(self.times),
        ]


def _columns(shards: Iterable[Shard]) -> Iterator[list[object]]:
    """Columns of each chunk."""
    chunk = _Chunk()
    for shard in shards:
        chunk.add(shard)
        if len(chunk.names) >= _CHUNK:
            yield chunk.columns()
            chunk = _Chunk()
    if chunk.uris:
        yield chunk.columns()


def _short(uris: Iterable[str]) -> list[str]:
    """URIs after `=`; of those in the folder of the one before, the name after `+`."""
    before, short = "", list[str]()
    for uri in uris:
        folder = uri[: uri.rfind("/") + 1]
        is_there = folder == before
        short.append(f"+{uri[len(folder) :]}" if is_there else f"={uri}")
        before = folder
    return short


def _whole(names: Iterable[str]) -> Iterator[str]:
    folder = ""
    for name in names:
        uri = name[1:] if name[0] == "=" else folder + name[1:]
        folder = uri[: uri.rfind("/") + 1]
        yield uri


def _steps(times: Sequence[float]) -> list[int]:
    """From each time to the next, in units of a float's last place: exact and small."""
    count = len(times)
    bits = struct.unpack(f"<{count}q", struct.pack(f"<{count}d", *times))
    return [now - before for before, now in itertools.pairwise((0, *bits))]


def _times(steps: Iterable[int]) -> Iterator[float]:
    for bits in itertools.accumulate(steps):
        yield struct.unpack("<d", struct.pack("<q", bits))[0]


def _pack(value: object) -> bytes:
    # A local name need not be UTF-8: JSON escapes what is not.
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9)


def _unpack(packed: bytes) -> list[Any]:
    return json.loads(zlib.decompress(packed))
