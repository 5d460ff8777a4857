"""PartWriter: the blocks of a part to its files."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa

from . import parquet, storage
from .block import KEPT, VERSION, Block
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
        self._blocks: list[Block] = []
        self._encoder: parquet.Encoder | None = None
        self._schema = pa.schema([])

    def add(self, block: Block) -> None:
        """Packs the next block of the part.

        Raises:
          IncompletePartError: The one before it is missing, or could not be packed.
        """
        place = block.place
        if place.row != (self._blocks[-1].end if self._blocks else place.part):
            raise IncompletePartError(f"blocks are missing before {place}")
        good = _numbered(block, good=True)
        if self._encoder is None:
            self._encoder = parquet.Encoder(good.schema)
            self._schema = block.rows.schema
        self._encoder.add(good)
        names = [name for name in block.rows.schema.names if name != _EMBEDDING]
        self._blocks.append(Block(place, block.rows.select(names)))

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
          IncompletePartError: Not all of its blocks were added.
          OSError: The place cannot be written.
        """
        blocks = self._blocks
        if self._encoder is None or not is_complete(blocks):
            raise IncompletePartError(f"blocks are missing of {output}")
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
        """What was added, for another to write. The last call.

        Returns:
          The blocks as they were, but that the embedding of a bad row is null.
        """
        if self._encoder is None or _EMBEDDING not in self._schema.names:
            return self._blocks
        packed = self._encoder.unpack(_EMBEDDING).combine_chunks()
        restored, taken = list[Block](), 0
        for block in self._blocks:
            good = block.rows["error"].is_null().to_numpy(zero_copy_only=False)
            rows = pa.array(taken + np.cumsum(good) - 1, mask=~good)
            taken += int(good.sum())
            columns = {
                _EMBEDDING: packed.take(rows).cast(self._schema.field(_EMBEDDING).type)
            }
            columns.update(
                zip(block.rows.schema.names, block.rows.columns, strict=True)
            )
            batch = pa.RecordBatch.from_pydict(columns, schema=self._schema)
            restored.append(Block(block.place, batch))
        return restored


def write_part(blocks: Iterable[Block], *, output: str, identity: str) -> PartTotals:
    """Writes a part all of whose blocks are at hand, in order; see PartWriter."""
    part = PartWriter()
    for block in blocks:
        part.add(block)
    return part.write(output=output, identity=identity)


def _bad_rows(blocks: Iterable[Block]) -> list[pa.RecordBatch]:
    """What the errors table has of blocks, as ERRORS_SCHEMA."""
    rows = (_numbered(block, good=False) for block in blocks)
    names = ERRORS_SCHEMA.names
    return [batch.select(names).cast(ERRORS_SCHEMA) for batch in rows]


def _numbered(block: Block, *, good: bool) -> pa.RecordBatch:
    """A block's good or bad rows, with their shard, row and key."""
    rows, place = block.rows, block.place
    numbers = pa.array(np.arange(place.row, block.end, dtype=np.int64))
    key = rows["key"]
    if key.null_count:
        key = key.fill_null(numbers.cast(pa.string()))
    columns = {
        "shard": pa.repeat(pa.scalar(place.shard), len(numbers)),
        "row": numbers,
        "key": key,
    }
    hidden = {*columns, *(_HIDDEN if good else ())}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name not in hidden:
            columns[name.removeprefix(KEPT)] = column
    fields = [
        pa.field(name, column.type, nullable=not good or _is_kept(name, rows))
        for name, column in columns.items()
    ]
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(fields))
    error = rows["error"]
    if good and error.null_count == len(error):
        # Mostly so: no copy of what is large.
        return batch
    return batch.filter(error.is_null() if good else error.is_valid())


def _is_kept(name: str, rows: pa.RecordBatch) -> bool:
    """Whether a column comes from the input; only such a one may be null."""
    return KEPT + name in rows.schema.names


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
