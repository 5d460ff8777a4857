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
from typing import Any

import apache_beam as beam

from .shard import File, Shard

_CHUNK = 4096
"""Files of a chunk, and stems; a shard is never cut."""


def pack_shards(shards: Iterable[Shard]) -> tuple[bytes, ...]:
    """Packs shards into chunks."""
    return tuple(_pack(_columns(chunk)) for chunk in _chunks(shards))


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


def _chunks(shards: Iterable[Shard]) -> Iterator[list[Shard]]:
    chunk: list[Shard] = []
    files = 0
    for shard in shards:
        chunk.append(shard)
        files += len(shard.files)
        if files >= _CHUNK:
            yield chunk
            chunk, files = [], 0
    if chunk:
        yield chunk


def _columns(shards: Sequence[Shard]) -> list[object]:
    files = [file for shard in shards for file in shard.files]
    return [
        _short([shard.uri for shard in shards]),
        [shard.format for shard in shards],
        [len(shard.files) for shard in shards],
        [sorted(shard.done_parts) for shard in shards],
        [(shard.start_row, shard.start_offset) for shard in shards],
        _short([file.uri for file in files]),
        [file.size for file in files],
        _steps([file.updated for file in files]),
    ]


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
