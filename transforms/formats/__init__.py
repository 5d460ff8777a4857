"""Readers of shards: one module a format, all giving the same records."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from .. import storage
from ..shard import Shard
from . import files, parquet, tar, tfrecord
from .kept import parse_keep
from .record import ColumnError, Columns, DamagedShardError, Opener, Record

__all__ = [
    "ColumnError",
    "Columns",
    "DamagedShardError",
    "Opener",
    "Record",
    "kept_types",
    "parse_keep",
    "read_records",
]

_READERS = {
    "tar": tar.read,
    "tfrecord": tfrecord.read,
    "parquet": parquet.read,
    "files": files.read,
}

_PEEKS = {"tfrecord": tfrecord.kept_types, "parquet": parquet.kept_types}


def read_records(
    shard: Shard, columns: Columns, *, open_input: Opener = storage.open_input
) -> Iterator[Record]:
    """Reads a shard from its start row to its last, in order.

    Close the generator where it is left early: it holds an open file, or threads.

    Args:
      shard: Of any format.
      columns: What to look for in it.
      open_input: Opens a stored object; of a `files` shard in several threads at once.

    Yields:
      A record for each row, bad ones with their fault. None for an empty shard.

    Raises:
      DamagedShardError: The content is cut off or corrupt, after all good records that
        precede the damage.
      ColumnError: A Parquet file has not the columns that were asked for.
      Exception: What the storage raises, unchanged.
    """
    return _READERS[shard.format](shard, columns, open_input=open_input)


def kept_types(
    shard: Shard,
    columns: Columns,
    names: Iterable[str],
    *,
    open_input: Opener = storage.open_input,
) -> pa.Schema:
    """Finds the types of the columns to keep, for `Columns.keep`, by one shard.

    Args:
      shard: Of the format that the names are meant for.
      columns: Checked on the way: a wrong `image` or `key` is found before the run.
      names: `name`, or `name:type` for another type than the one found.
      open_input: Opens a stored object.

    Raises:
      ColumnError: The shard has no such column, or a type is not known.
      DamagedShardError: The shard cannot be read at all.
    """
    if shard.format in _PEEKS:
        return _PEEKS[shard.format](shard, columns, names, open_input=open_input)
    pairs = [parse_keep(text) for text in names]
    if shard.format == "files" and pairs:
        raise ColumnError(
            f"plain image files have no columns to keep: {', '.join(dict(pairs))}"
        )
    return pa.schema([(name, kind or tar.kept_type(name)) for name, kind in pairs])
