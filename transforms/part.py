"""Parts: the files of the output, as Arrow tables and Parquet bytes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from . import storage
from .block import KEPT, Block, Place

EMBEDDINGS, ERRORS = "embeddings", "errors"
"""Folders of the two tables."""

METADATA_KEY = b"bitbeam"
"""Key of a part's own description in its file's metadata."""

_ROW_GROUP_BYTES = 32 << 20
_DICTIONARIES = (
    "shard",
    "stage",
    "error",
    "predictions.list.element.wnid",
    "predictions.list.element.label",
)

ERRORS_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
    ]
)


class IncompletePartError(Exception):
    """Blocks of a part are missing."""


@dataclass(frozen=True)
class PartTotals:
    """What a part holds.

    Attributes:
      stem: The part's file name without its suffix; unique in an output.
      shard: The shard's URI.
      first_row: The part's first row in its shard.
      end_row: The row after its last.
      last: The shard's last part.
      good: Rows of its embeddings file.
      errors: Rows of its errors file by error, sorted.
    """

    stem: str
    shard: str
    first_row: int
    end_row: int
    last: bool
    good: int
    errors: tuple[tuple[str, int], ...]

    @property
    def bad(self) -> int:
        """Rows of its errors file."""
        return sum(rows for _, rows in self.errors)


def part_stem(place: Place, *, last: bool) -> str:
    """The file name of a part without its suffix: its shard, its first row.

    The shard's last part says so, so that a listing of the output alone tells which
    shards are done.
    """
    return f"{place.name}-{place.part:010d}" + ("-last" if last else "")


def is_complete(blocks: Sequence[Block]) -> bool:
    """Whether blocks, sorted by row and none twice, are all of their part's."""
    expected = blocks[0].place.part
    for block in blocks:
        if block.place.row != expected:
            return False
        expected = block.end
    return blocks[-1].place.ends_part


def embeddings_table(blocks: Iterable[Block]) -> pa.Table:
    """The good rows of a part's blocks."""
    return _table(blocks, good=True)


def errors_table(blocks: Iterable[Block]) -> pa.Table:
    """The bad rows of a part's blocks, as ERRORS_SCHEMA."""
    table = _table(blocks, good=False)
    return table.select(ERRORS_SCHEMA.names).cast(ERRORS_SCHEMA)


def _table(blocks: Iterable[Block], *, good: bool) -> pa.Table:
    return pa.Table.from_batches([_numbered(block, good=good) for block in blocks])


def _numbered(block: Block, *, good: bool) -> pa.RecordBatch:
    """A block's good or bad rows, with their shard, row and key."""
    rows, place = block.rows, block.place
    numbers = pa.array(range(place.row, block.end), pa.int64())
    names = {
        "shard": pa.repeat(pa.scalar(place.shard), len(numbers)),
        "row": numbers,
        "key": rows["key"].fill_null(numbers.cast(pa.string())),
    }
    hidden = ("stage", "error", "message", "bytes") if good else ()
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if field.name not in (*names, *hidden):
            names[field.name.removeprefix(KEPT)] = column
    fields = [
        pa.field(name, column.type, nullable=not good or _is_kept(name, rows))
        for name, column in names.items()
    ]
    batch = pa.RecordBatch.from_arrays(list(names.values()), schema=pa.schema(fields))
    error = rows["error"]
    return batch.filter(error.is_null() if good else error.is_valid())


def _is_kept(name: str, rows: pa.RecordBatch) -> bool:
    """Whether a column comes from the input; only such a one may be null."""
    return KEPT + name in rows.schema.names


def to_parquet(table: pa.Table, *, description: dict[str, object]) -> memoryview:
    """A table as the bytes of a Parquet file.

    Vectors are split into byte streams, which zstd then packs best, and neither
    dictionaries nor statistics are made of them. The same table gives the same
    bytes.
    """
    names = _leaf_names(table.schema)
    split = [name for name in names if name.startswith("embedding.")]
    text = json.dumps(description, sort_keys=True)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({METADATA_KEY: text}),
        sink,
        compression="zstd",
        use_dictionary=[name for name in names if name in _DICTIONARIES],
        column_encoding={name: "BYTE_STREAM_SPLIT" for name in split},
        write_statistics=[name for name in names if name not in split],
        row_group_size=_row_group_rows(table),
    )
    return memoryview(sink.getvalue())


def _leaf_names(schema: pa.Schema) -> list[str]:
    """Dotted paths of the Parquet columns of a schema."""
    parquet = pa.BufferOutputStream()
    with pq.ParquetWriter(parquet, schema) as writer:
        writer.write_table(schema.empty_table())
    described = pq.read_metadata(pa.BufferReader(parquet.getvalue())).schema
    return [described.column(i).path for i in range(len(described))]


def _row_group_rows(table: pa.Table) -> int:
    if not table.num_rows:
        return 1
    return max(1, _ROW_GROUP_BYTES * table.num_rows // max(1, table.nbytes))


def write_part(blocks: Sequence[Block], *, output: str, identity: str) -> PartTotals:
    """Writes a part's one or two files.

    The embeddings file is written last, also when no row is good: where it is, the
    part is done.

    Args:
      blocks: All of the part's, sorted by row, none twice.
      output: The output's folder.
      identity: Digest of what the output's rows have in common.

    Returns:
      What the part holds.
    """
    if not is_complete(blocks):
        raise IncompletePartError(f"blocks are missing of {blocks[0].place}")
    totals = _totals(blocks)
    description = {"identity": identity, **asdict(totals)}
    errors = part_uri(output, ERRORS, totals.stem)
    if totals.bad:
        content = to_parquet(errors_table(blocks), description=description)
        storage.write_whole(errors, content)
    else:
        # An earlier try may have found a row bad that is good today.
        storage.remove(errors)
    content = to_parquet(embeddings_table(blocks), description=description)
    storage.write_whole(part_uri(output, EMBEDDINGS, totals.stem), content)
    return totals


def part_uri(output: str, table: str, stem: str) -> str:
    """Where a part's file of one of the two tables lies."""
    return storage.join(output, table, f"{stem}.parquet")


def _totals(blocks: Sequence[Block]) -> PartTotals:
    first, last = blocks[0].place, blocks[-1].place
    errors: dict[str, int] = {}
    for block in blocks:
        for error in block.rows["error"].drop_null().to_pylist():
            errors[error] = errors.get(error, 0) + 1
    rows = blocks[-1].end - first.part
    return PartTotals(
        stem=part_stem(first, last=last.ends_shard),
        shard=first.shard,
        first_row=first.part,
        end_row=blocks[-1].end,
        last=last.ends_shard,
        good=rows - sum(errors.values()),
        errors=tuple(sorted(errors.items())),
    )


def read_totals(output: str, stem: str) -> PartTotals:
    """What a part that is written holds, from its file's metadata alone."""
    with storage.open_input(part_uri(output, EMBEDDINGS, stem)) as source:
        found = json.loads(pq.read_metadata(source).metadata[METADATA_KEY])
    del found["identity"]
    errors = tuple((error, rows) for error, rows in found.pop("errors"))
    return PartTotals(**found, errors=errors)
