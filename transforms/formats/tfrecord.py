"""TFRecord files of tf.Example, with or without gzip."""

import contextlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import google_crc32c
import pyarrow as pa

from ..block import Fault
from ..shard import Shard
from . import example
from .kept import parse_keep
from .record import ColumnError, Columns, DamagedShardError, Opener, Record
from .stream import Stream

_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")

_PEEK = 32
"""Records that tell the types of the features: one may lack some."""


def read(shard: Shard, columns: Columns, *, open_input: Opener) -> Iterator[Record]:
    """Reads a TFRecord file of serialized tf.Example in one pass.

    A record whose content does not fit its checksum, or is no tf.Example, or has no
    image, is a row with a fault. Several values in the image's feature are a row each.

    Args:
      shard: Of one file.
      columns: Names of features.
      open_input: Opens the file.

    Raises:
      DamagedShardError: The file is cut off, or the length of a record does not fit its
        checksum, so that the next record cannot be found.
    """
    with contextlib.closing(open_input(shard.files[0].uri)) as file:
        stream = Stream(file, start=shard.start_offset, is_plain=_is_length)
        for frame in _frames(stream):
            records = _to_records(frame, columns=columns)
            first = next(records, None)
            if first is not None:
                yield first if stream.packed else replace(first, offset=frame.offset)
            yield from records


def kept_types(
    shard: Shard, columns: Columns, names: Iterable[str], *, open_input: Opener
) -> pa.Schema:
    """Types of the features to keep, from the shard's first records.

    A feature of one value everywhere is a scalar, any other a list; bytes are text if
    all are UTF-8. A type given as `name:type` is taken for granted.

    Raises:
      ColumnError: No record looked at has that feature, or the image.
    """
    with contextlib.closing(open_input(shard.files[0].uri)) as file:
        frames = _frames(Stream(file, is_plain=_is_length))
        parsed = (example.parse(frame.data) for frame in frames if frame.is_whole)
        found = list(itertools.islice(_known(parsed), _PEEK))
    there = example.names({name: None for features in found for name in features})
    if found and not any(example.has_image(each, name=columns.image) for each in found):
        raise ColumnError(
            f"no feature {columns.image or 'with an image'} in {shard.uri}: there are"
            f" {there}"
        )
    fields = []
    for text in names:
        name, kind = parse_keep(text)
        kind = kind or example.kept_type(found, name=name)
        if kind is None:
            raise ColumnError(f"no feature {name!r} in {shard.uri}: there are {there}")
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def write_tfrecord(path: str, examples: Iterable[Mapping[str, bytes]]) -> None:
    """Writes a local file of tf.Example, each of features of one value of bytes."""
    with open(path, "wb") as sink:
        for features in examples:
            data = example.serialize(features)
            length = struct.pack("<Q", len(data))
            sink.write(length + _CHECKSUM.pack(_masked_crc(length)))
            sink.write(data + _CHECKSUM.pack(_masked_crc(data)))


class _Frame(NamedTuple):
    offset: int
    data: bytes
    is_whole: bool


def _frames(stream: Stream) -> Iterator[_Frame]:
    """Splits the file into records (tensorflow/core/lib/io/record_writer.h)."""
    while True:
        offset = stream.position
        head = stream.read(_LENGTH.size)
        if not head:
            return
        if len(head) < _LENGTH.size:
            raise _truncated(stream, offset=offset)
        if not _is_length(head):
            raise DamagedShardError(
                "corrupt_shard",
                f"the record at byte {offset:,} has a length that fails its checksum",
            )
        length, _ = _LENGTH.unpack(head)
        data = stream.read(length)
        tail = stream.read(_CHECKSUM.size)
        if len(data) < length or len(tail) < _CHECKSUM.size:
            raise _truncated(stream, offset=offset)
        yield _Frame(offset, data, _CHECKSUM.unpack(tail)[0] == _masked_crc(data))


def _to_records(frame: _Frame, *, columns: Columns) -> Iterator[Record]:
    where = f"the record at byte {frame.offset:,}"
    if not frame.is_whole:
        message = f"the content of {where} does not fit its checksum"
        yield Record(None, None, fault=Fault("read", "bad_checksum", message))
        return
    features = example.parse(frame.data)
    if features is None:
        message = f"{where} is no tf.Example"
        yield Record(None, None, fault=Fault("read", "bad_example", message))
        return
    yield from example.to_records(features, columns=columns)


def _known(
    parsed: Iterable[example.Features | None],
) -> Iterator[example.Features]:
    """The examples that could be parsed, up to the damage of the shard."""
    with contextlib.suppress(DamagedShardError):
        for features in parsed:
            if features is not None:
                yield features


def _is_length(head: bytes) -> bool:
    """Whether the bytes are the head of a record: a length and its checksum."""
    if len(head) < _LENGTH.size:
        return False
    return bool(_LENGTH.unpack(head)[1] == _masked_crc(head[:8]))


def _masked_crc(data: bytes) -> int:
    # Masked, as the checksum of data that hold checksums is weak (TensorFlow,
    # lib/hash/crc32c.h).
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _truncated(stream: Stream, *, offset: int) -> DamagedShardError:
    return DamagedShardError(
        "truncated_shard",
        f"the file ends at byte {stream.position:,}, inside of the record at byte"
        f" {offset:,}",
    )
