"""Parquet files with the images in a column, or in Hugging Face's image struct."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ..shard import Shard
from .kept import parse_keep
from .layout import find_layout, plain_type
from .record import ColumnError, Columns, DamagedShardError, Opener, Record
from .rows import to_records

_BUFFER = 4 << 20
"""Bytes read at once of each column chunk, which is never in memory as a whole."""

_BATCH_BYTES = 2 << 20
_LARGEST_BATCH = 256

_DAMAGE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises about a file that it cannot read."""


def read(shard: Shard, columns: Columns, *, open_input: Opener) -> Iterator[Record]:
    """Reads a Parquet file row group by row group, a few rows at a time.

    Memory is bounded by the pages of the columns that are needed, not by the row
    groups. Page checksums are verified where the file has them. A null image is a row
    with a fault.

    Args:
      shard: Of one file.
      columns: Names of columns. A column to keep that this file lacks is null.
      open_input: Opens the file; it must be seekable.

    Raises:
      DamagedShardError: It is no Parquet file, or it cannot be read from some row on.
      ColumnError: It has no image column, or it cannot be told which it is.
    """
    with contextlib.closing(open_input(shard.files[0].uri)) as file:
        source = _Source(file)
        table = _open(source)
        layout = find_layout(table.schema_arrow, columns=columns, uri=shard.uri)
        first = 0
        for group in range(table.num_row_groups):
            rows = _RowGroup(table, group, layout.columns, first, source)
            skip = max(0, shard.start_row - first)
            if skip < rows.count:
                for batch in rows.batches(skip=skip):
                    yield from to_records(batch, layout=layout, columns=columns)
            first += rows.count
        if first != table.metadata.num_rows:
            why = f"the footer tells of {table.metadata.num_rows:,} rows in all"
            raise _damaged(ValueError(why), row=first)


def kept_types(
    shard: Shard, columns: Columns, names: Iterable[str], *, open_input: Opener
) -> pa.Schema:
    """Types of the columns to keep, from the file's schema.

    Raises:
      ColumnError: There is no such column, or no image.
      DamagedShardError: It is no Parquet file.
    """
    with contextlib.closing(open_input(shard.files[0].uri)) as file:
        schema = _open(_Source(file)).schema_arrow
    find_layout(schema, columns=columns, uri=shard.uri)
    fields = []
    for text in names:
        name, kind = parse_keep(text)
        if name not in schema.names:
            there = ", ".join(schema.names)
            raise ColumnError(f"no column {name!r} in {shard.uri}: there are {there}")
        fields.append(pa.field(name, kind or plain_type(schema.field(name).type)))
    return pa.schema(fields)


class _Source:
    """The file as pyarrow reads it; remembers what the storage raised.

    pyarrow turns some exceptions into its own, and says `OSError` for damage too.
    """

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        return self._watch(self._file.read, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._watch(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._watch(self._file.tell)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        """Leaves the file open: whoever opened it closes it."""

    def _watch(self, call: Callable[..., Any], *arguments: int) -> Any:
        try:
            return call(*arguments)
        except BaseException as error:
            self.failure = error
            raise

    @contextlib.contextmanager
    def damage(self, *, row: int) -> Iterator[None]:
        """Tells damage from failure of the storage in what pyarrow raises."""
        try:
            yield
        except _DAMAGE as error:
            if self.failure is not None:
                raise self.failure from None
            raise _damaged(error, row=row) from error


def _damaged(error: BaseException, *, row: int) -> DamagedShardError:
    text = str(error).strip().splitlines()
    why = text[0] if text else type(error).__name__
    return DamagedShardError("corrupt_shard", f"{row:,} rows read, then: {why}")


def _open(source: _Source) -> pq.ParquetFile:
    with source.damage(row=0):
        return pq.ParquetFile(
            pa.PythonFile(source, mode="r"),
            buffer_size=_BUFFER,
            # It would read the column chunks of a row group ahead, as a whole.
            pre_buffer=False,
            page_checksum_verification=True,
        )


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a file.

    Attributes:
      table: The file.
      number: Its place in the file.
      columns: Paths of the columns to read.
      first: Its first row in the file.
      source: What the file is read through.
    """

    table: pq.ParquetFile
    number: int
    columns: list[str]
    first: int
    source: _Source

    @property
    def count(self) -> int:
        """Rows, as the footer says."""
        return int(self.table.metadata.row_group(self.number).num_rows)

    def batches(self, *, skip: int) -> Iterator[pa.RecordBatch]:
        """The rows in order, all that can be read before the first that cannot.

        Args:
          skip: Rows to leave out at the beginning.
        """
        done = skip
        try:
            for batch in self._read(self._batch_size(), skip=skip):
                done += len(batch)
                yield batch
        except DamagedShardError:
            # Rows of the batch that failed may still be good.
            for batch in self._read(1, skip=done):
                yield batch

    def _read(self, size: int, *, skip: int) -> Iterator[pa.RecordBatch]:
        done = 0
        with self.source.damage(row=self.first):
            batches = self.table.iter_batches(
                size, row_groups=[self.number], columns=self.columns, use_threads=False
            )
        while True:
            with self.source.damage(row=self.first + done):
                batch = next(batches, None)
            if batch is None:
                break
            fresh = done + len(batch) - skip
            done += len(batch)
            if fresh > 0:
                yield batch[-fresh:] if fresh < len(batch) else batch
        if done < self.count:
            why = ValueError(f"the row group ends {self.count - done:,} rows early")
            raise _damaged(why, row=self.first + done)

    def _batch_size(self) -> int:
        size = self.table.metadata.row_group(self.number).total_byte_size
        return max(1, min(_LARGEST_BATCH, _BATCH_BYTES * self.count // max(1, size)))
