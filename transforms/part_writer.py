"""PartWriter: the blocks of a part to its files."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import parquet, storage
from .block import KEPT, VERSION, Block, Place
from .part import (
    EMBEDDINGS,
    ERRORS,
    ERRORS_SCHEMA,
    IncompletePartError,
    PartTotals,
    is_complete,
    part_stem,
    part_uri,
    read_totals,
)

_HIDDEN = ("stage", "error", "message", "bytes", VERSION)
"""Columns of a block that the embeddings table does not show."""

_EMBEDDING = "embedding"
"""The column that is larger than all others."""


class PartWriter:
    """Writes a part's one or two files, from its blocks in order.

    Rows are packed as they come, so that of a part never more than a row group is held
    raw, and little is left to do when its last block is here.
    """

    def __init__(self) -> None:
        self._waiting: list[Block] = []
        self._size = 0
        self._packed: list[Block] = []
        self._encoder: parquet.Encoder | None = None
        self._schema = pa.schema([])

    def take(self, block: Block) -> list[Block]:
        """Takes the next block.

        Returns:
          What is to be packed now: a row group's worth, or the part's last; or nothing.
        """
        self._waiting.append(block)
        self._size += block.nbytes
        if self._size < parquet.ROW_GROUP_BYTES and not block.place.ends_part:
            return []
        waiting, self._waiting, self._size = self._waiting, [], 0
        return waiting

    def pack(self, blocks: Sequence[Block]) -> None:
        """Packs what `take` gave, each in its turn; perhaps in another thread."""
        rows = pa.Table.from_batches([block.rows for block in blocks])
        good = _numbered(rows, blocks[0].place, good=True)
        if self._encoder is None:
            self._encoder = parquet.Encoder(good.schema)
            self._schema = rows.schema
        self._encoder.add(good)
        names = [name for name in rows.schema.names if name != _EMBEDDING]
        self._packed += [
            Block(block.place, block.rows.select(names)) for block in blocks
        ]

    def write(self, *, output: str, identity: str) -> PartTotals:
        """Writes the part, unless another bundle was first. The last call.

        The embeddings file is written last, also when no row is good: where it is, the
        part is done.

        Args:
          output: The output's folder.
          identity: Digest of what the output's rows have in common.

        Returns:
          What the part holds.

        Raises:
          IncompletePartError: Not all of its blocks were packed.
          OSError: The place cannot be written.
        """
        blocks = self._packed
        if self._encoder is None or not is_complete(blocks):
            where = blocks[0].place if blocks else output
            raise IncompletePartError(f"blocks are missing of {where}")
        totals = _totals(blocks)
        if storage.exists(part_uri(output, EMBEDDINGS, totals.stem)):
            # By a machine of another kind its last bits may be others, and what is
            # counted must be what is there.
            return read_totals(output, totals.stem)
        description = {"identity": identity, **asdict(totals)}
        description["resume_at"] = blocks[-1].place.resume_at
        del description["digest"]
        errors = part_uri(output, ERRORS, totals.stem)
        if totals.bad:
            bad = parquet.encode(_bad_rows(blocks), description)
            storage.write_whole(errors, bad.content)
            description["errors_digest"] = bad.digest
        else:
            # An earlier try may have found a row bad that is good today.
            storage.remove(errors)
        good = self._encoder.finish(description, members=_members(blocks))
        storage.write_whole(part_uri(output, EMBEDDINGS, totals.stem), good.content)
        return replace(totals, digest=good.digest)

    def blocks(self) -> list[Block]:
        """What was taken, for another to write. The last call.

        Returns:
          The blocks as they were, but that the embedding of a bad row may be null.
        """
        if self._encoder is None or _EMBEDDING not in self._schema.names:
            return self._packed + self._waiting
        packed = self._encoder.unpack(_EMBEDDING).combine_chunks()
        restored, taken = list[Block](), 0
        for block in self._packed:
            good = block.rows["error"].is_null().to_numpy(zero_copy_only=False)
            rows = pa.array(taken + np.cumsum(good) - 1, mask=~good)
            taken += int(good.sum())
            columns = dict(
                zip(block.rows.schema.names, block.rows.columns, strict=True)
            )
            kind = self._schema.field(_EMBEDDING).type
            columns[_EMBEDDING] = packed.take(rows).cast(kind)
            batch = pa.RecordBatch.from_pydict(columns, schema=self._schema)
            restored.append(Block(block.place, batch))
        return restored + self._waiting


def write_part(blocks: Iterable[Block], *, output: str, identity: str) -> PartTotals:
    """Writes a part all of whose blocks are at hand, in order; see PartWriter."""
    part = PartWriter()
    for block in blocks:
        if ready := part.take(block):
            part.pack(ready)
    return part.write(output=output, identity=identity)


def _bad_rows(blocks: Sequence[Block]) -> pa.Table:
    """What the errors table has of blocks, as ERRORS_SCHEMA."""
    rows = pa.Table.from_batches([block.rows for block in blocks])
    bad = _numbered(rows, blocks[0].place, good=False)
    return bad.select(ERRORS_SCHEMA.names).cast(ERRORS_SCHEMA)


def _numbered(rows: pa.Table, place: Place, *, good: bool) -> pa.Table:
    """The good or the bad ones of rows of a part, with their shard, row and key.

    Args:
      rows: Of blocks.
      place: Of the first of them.
      good: Which.
    """
    first, count = place.row, rows.num_rows
    numbers = pa.array(np.arange(first, first + count, dtype=np.int64))
    key = rows["key"]
    if key.null_count:
        key = pc.coalesce(key, numbers.cast(pa.string()))
    columns = {
        "shard": pa.repeat(pa.scalar(place.shard), count),
        "row": numbers,
        "key": key,
    }
    hidden = {*columns, *(_HIDDEN if good else ())}
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if name not in hidden:
            columns[name.removeprefix(KEPT)] = column
    fields = [
        # Only what comes from the input may be null.
        pa.field(
            name, column.type, nullable=not good or KEPT + name in rows.column_names
        )
        for name, column in columns.items()
    ]
    table = pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))
    error = rows["error"]
    if good and error.null_count == count:
        # Mostly so: no copy of what is large.
        return table
    return table.filter(error.is_null() if good else error.is_valid())


def _totals(blocks: Sequence[Block]) -> PartTotals:
    first, last = blocks[0].place, blocks[-1].place
    errors: Counter[str] = Counter()
    for block in blocks:
        errors.update(block.rows["error"].drop_null().to_pylist())
    return PartTotals(
        stem=part_stem(first, last=last.ends_shard),
        shard=first.shard,
        first_row=first.part,
        end_row=blocks[-1].end,
        last=last.ends_shard,
        good=blocks[-1].end - first.part - errors.total(),
        errors=tuple(sorted(errors.items())),
    )


def _members(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """URI and version of the files behind the rows; empty where a shard is a file."""
    if VERSION not in blocks[0].rows.schema.names:
        return []
    return [
        (uri, version)
        for block in blocks
        for uri, version in zip(
            block.rows["key"].to_pylist(),
            block.rows[VERSION].to_pylist(),
            strict=True,
        )
    ]
