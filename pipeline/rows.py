"""The rows of a part's files, checked: values, numbers, schemas.

Each check gives what is wrong, as text, and knows nothing of files.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import PartTotals
from transforms.part import ERRORS_SCHEMA

from .problems import Rows, rows_text, span_text

_BATCH = 1024
"""Rows in memory as Arrow at once, beside the bytes of the files."""

_FIELDS = (
    pa.field("shard", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("sha256", pa.binary(32), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
)
"""What every embeddings file has beside its vectors; that no value is null is then a
matter of the format."""


@dataclass(frozen=True)
class Table:
    """What was read of a file of a part.

    Attributes:
      rows: Row numbers, in the file's order.
      keys: Of each row.
      errors: Rows by error, of an errors file.
      problems: What is wrong with single rows.
    """

    rows: Rows
    keys: tuple[str, ...]
    errors: Counter[str]
    problems: tuple[str, ...]


def schema_text(schema: pa.Schema) -> str:
    """A schema in words, without anybody's metadata."""
    return schema.to_string(show_field_metadata=False, show_schema_metadata=False)


def check_schema(
    schema: pa.Schema, *, embedding: tuple[str, int] | None
) -> Iterator[str]:
    """Checks the columns of an embeddings file.

    Args:
      schema: Without metadata.
      embedding: Type and length of the vectors, if they are known.
    """
    for field in _FIELDS:
        at = schema.get_field_index(field.name)
        if at < 0 or not schema.field(at).remove_metadata().equals(field):
            yield f"has no column {field.name} of type {field.type}, not null"
    at = schema.get_field_index("embedding")
    kind = schema.field(at).type if at >= 0 else None
    if not isinstance(kind, pa.FixedSizeListType) or schema.field(at).nullable:
        yield "has no column embedding of vectors, not null"
    elif embedding not in (None, (str(kind.value_type), kind.list_size)):
        yield f"has embeddings of {kind.list_size} x {kind.value_type}, not {embedding}"


def check_errors_schema(schema: pa.Schema) -> Iterator[str]:
    """Checks the columns of an errors file."""
    if schema_text(schema) != schema_text(ERRORS_SCHEMA):
        yield "has other columns than an errors file has"


def read_rows(content: bytes, *, shard: str) -> Table:
    """Reads all of a file, a batch at a time.

    Args:
      content: Parquet.
      shard: What each row must say.
    """
    rows, keys = [np.empty(0, np.int64)], list[str]()
    errors: Counter[str] = Counter()
    faults: dict[str, list[Rows]] = {}
    for batch in pq.ParquetFile(io.BytesIO(content)).iter_batches(_BATCH):
        at = batch["row"].to_numpy(zero_copy_only=False)
        rows.append(at)
        keys += batch["key"].to_pylist()
        if "error" in batch.schema.names:
            errors.update(batch["error"].to_pylist())
        for what, mask in _bad_values(batch, shard=shard):
            if mask.any():
                faults.setdefault(what, []).append(at[mask])
    problems = [
        f"{rows_text(np.concatenate(guilty))}: {what}"
        for what, guilty in faults.items()
    ]
    return Table(np.concatenate(rows), tuple(keys), errors, tuple(problems))


def _bad_values(
    batch: pa.RecordBatch, *, shard: str
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """What may be wrong with values, and which rows it is wrong with."""
    shards = np.array(batch["shard"].to_pylist(), object)
    yield f"the shard is not {shard}", shards != shard
    if "embedding" in batch.schema.names:
        values = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
        finite = np.isfinite(values.reshape(len(batch), -1)).all(axis=1)
        yield "the embedding is not finite", ~finite


def check_part(
    tables: Sequence[Table], *, members: Sequence[str], totals: PartTotals
) -> Iterator[str]:
    """Checks that each row of a part is in one of its tables, once and in order.

    Args:
      tables: Of its one or two files, the good rows first.
      members: The plain files that its rows are of, in order; empty if they are none.
      totals: What the metadata says.
    """
    yield from _check_numbers(tables, totals)
    errors = tables[1].errors if tables[1:] else Counter[str]()
    if errors != Counter(dict(totals.errors)):
        yield f"has errors {dict(errors)}, its metadata says {dict(totals.errors)}"
    keys = {
        row: key
        for table in tables
        for row, key in zip(table.rows.tolist(), table.keys, strict=True)
    }
    if members and members != [keys[row] for row in sorted(keys)]:
        yield "has metadata of other plain files than its rows"


def _check_numbers(tables: Sequence[Table], totals: PartTotals) -> Iterator[str]:
    first, end = totals.first_row, totals.end_row
    found = np.concatenate([table.rows for table in tables])
    outside = found[(found < first) | (found >= end)]
    if len(outside):
        yield f"{rows_text(outside)}: not of this part, {span_text(first, end)}"
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        yield f"{rows_text(values[counts > 1])}: there more than once"
    missing = np.setdiff1d(np.arange(first, end), found)
    if len(missing):
        yield f"{rows_text(missing)}: in neither table, of {totals.shard}"
    if any((np.diff(table.rows) < 0).any() for table in tables):
        yield "its rows are not in order"
