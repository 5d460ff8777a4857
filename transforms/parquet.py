"""Tables as Parquet files that prove themselves.

A file's metadata describes it, and holds the digest of all bytes before the footer.
The digest of the footer then stands for the whole file.
"""

import base64
import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

METADATA_KEY = b"bitbeam"
"""Key of a file's description in its metadata: JSON."""

_MEMBERS_KEY = b"bitbeam.members"
"""Key of the plain files behind a part's rows: JSON, zlib, base64."""

MAGIC = b"PAR1"
ROW_GROUP_BYTES = 8 << 20
"""Of a row group, before it is packed."""

_TAIL = 8
"""Bytes after the footer: its length and the magic."""

_DICTIONARIES = (
    "shard",
    "stage",
    "error",
    "predictions.list.element.wnid",
    "predictions.list.element.label",
)


class NotOursError(ValueError):
    """A file that is no whole Parquet file of bitbeam's. One line."""


class Encoded(NamedTuple):
    """A file's bytes and the digest of its footer, hex."""

    content: memoryview
    digest: str


class Encoder:
    """Packs a table into a Parquet file's bytes, a row group at a time.

    Vectors are split into byte streams, which zstd then packs best, and neither
    dictionaries nor statistics are made of them. The same rows in the same pieces give
    the same bytes.
    """

    def __init__(self, schema: pa.Schema) -> None:
        """Args:
        schema: Of any columns; vectors are a list column `embedding`.
        """
        self._sink = io.BytesIO()
        self._writer = _writer(self._sink, schema)
        self._digest = hashlib.sha256()
        self._digested = 0

    def add(self, rows: pa.Table) -> None:
        """Packs the next rows as a row group, or as several where they are many."""
        if rows.num_rows:
            groups = max(1, rows.nbytes // ROW_GROUP_BYTES)
            count = -(-rows.num_rows // groups)
            self._writer.write_table(rows, row_group_size=count)
        self._update_digest()

    def finish(
        self,
        description: dict[str, Any],
        *,
        members: Sequence[tuple[str, str]] = (),
    ) -> Encoded:
        """Gives the file.

        Args:
          description: JSON; kept in the file's metadata beside `data_digest`, the
            digest of all bytes before the footer.
          members: URI and version of the plain files behind the rows, if they are.
        """
        self._update_digest()
        text = {**description, "data_digest": self._digest.hexdigest()}
        self._writer.add_key_value_metadata(
            {METADATA_KEY: json.dumps(text, sort_keys=True)}
        )
        if members:
            packed = base64.b64encode(zlib.compress(json.dumps(members).encode()))
            self._writer.add_key_value_metadata({_MEMBERS_KEY: packed})
        self._writer.close()
        # Not `getvalue`, which would copy it.
        content = self._sink.getbuffer()
        return Encoded(content, _digest(footer_of(content)))

    def unpack(self, column: str) -> pa.ChunkedArray:
        """All values of a column, instead of a file."""
        self._writer.close()
        packed = pa.BufferReader(self._sink.getbuffer())
        return pq.read_table(packed, columns=[column])[column]

    def _update_digest(self) -> None:
        with self._sink.getbuffer() as content:
            self._digest.update(content[self._digested :])
            self._digested = len(content)


def encode(
    rows: pa.Table,
    description: dict[str, Any],
    *,
    members: Sequence[tuple[str, str]] = (),
) -> Encoded:
    """A table as a file; see Encoder."""
    encoder = Encoder(rows.schema)
    encoder.add(rows)
    return encoder.finish(description, members=members)


def _writer(sink: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    names = _leaf_names(schema)
    split = [name for name in names if name.startswith("embedding.")]
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=[name for name in names if name in _DICTIONARIES],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in split},
        write_statistics=[name for name in names if name not in split],
    )


def _leaf_names(schema: pa.Schema) -> list[str]:
    """Dotted paths of the Parquet columns of a schema."""
    parquet = pa.BufferOutputStream()
    pq.ParquetWriter(parquet, schema).close()
    described = pq.read_metadata(pa.BufferReader(parquet.getvalue())).schema
    return [described.column(i).path for i in range(len(described))]


def footer_of(content: bytes | memoryview) -> bytes | memoryview:
    """The footer of a Parquet file's bytes, or of its last bytes.

    Raises:
      NotOursError: The end of the file is missing.
    """
    if len(content) < _TAIL or content[-4:] != MAGIC:
        raise NotOursError("is no whole Parquet file")
    length = int.from_bytes(content[-_TAIL:-4], "little")
    if length > len(content) - _TAIL:
        raise NotOursError("is no whole Parquet file")
    return content[len(content) - _TAIL - length : len(content) - _TAIL]


def read_description(source: BinaryIO) -> tuple[dict[str, Any], str]:
    """Reads a file's description and the digest of its footer, and nothing else.

    Raises:
      NotOursError: It is no whole Parquet file, or has no description.
    """
    size = source.seek(0, io.SEEK_END)
    source.seek(max(0, size - _TAIL))
    tail = source.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    source.seek(max(0, size - _TAIL - length))
    footer = footer_of(source.read(length + _TAIL))
    source.seek(0)
    return description_of(source), _digest(footer)


def description_of(source: BinaryIO) -> dict[str, Any]:
    """A file's description.

    Raises:
      NotOursError: Its metadata cannot be read, or has none.
    """
    try:
        return json.loads(_metadata(source)[METADATA_KEY])
    except KeyError:
        raise NotOursError("is not of bitbeam: its metadata does not say so") from None
    except ValueError as error:
        raise NotOursError(f"has metadata that cannot be read: {error}") from error


def members_of(source: BinaryIO) -> dict[str, str]:
    """Versions by URI of the plain files behind a file's rows; empty if they are none.

    Raises:
      NotOursError: Its metadata cannot be read.
    """
    packed = _metadata(source).get(_MEMBERS_KEY)
    if packed is None:
        return {}
    try:
        return dict(json.loads(zlib.decompress(base64.b64decode(packed))))
    except (ValueError, zlib.error) as error:
        raise NotOursError(f"has metadata that cannot be read: {error}") from error


def _metadata(source: BinaryIO) -> dict[bytes, bytes]:
    try:
        return pq.read_metadata(source).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        line = str(error).splitlines()[0]
        raise NotOursError(f"has metadata that cannot be read: {line}") from error


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
