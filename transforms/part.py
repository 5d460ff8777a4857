"""Parts: the files of the output, what they hold, and how they are written."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

import pyarrow as pa

from . import parquet, storage
from .block import KEPT, VERSION, Block, Place

EMBEDDINGS, ERRORS = "embeddings", "errors"
"""Folders of the two tables."""

_HIDDEN = ("stage", "error", "message", "bytes", VERSION)
"""Columns of a block that the embeddings table does not show."""

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
    """What a part holds, as its files' metadata says too.

    Attributes:
      stem: The part's file name without its suffix; unique in an output.
      shard: The shard's URI.
      first_row: The part's first row in its shard.
      end_row: The row after its last.
      last: The shard's last part.
      good: Rows of its embeddings file.
      errors: Rows of its errors file by error, sorted.
      digest: Of the embeddings file's footer, which holds the digests of all else:
        whatever changes in one of the two files, this changes or no longer fits.
    """

    stem: str
    shard: str
    first_row: int
    end_row: int
    last: bool
    good: int
    errors: tuple[tuple[str, int], ...]
    digest: str = ""

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


def part_uri(output: str, table: str, stem: str) -> str:
    """Where a part's file of one of the two tables lies."""
    return storage.join(output, table, f"{stem}.parquet")


def is_complete(blocks: Sequence[Block]) -> bool:
    """Whether blocks, sorted by row and none twice, are all of their part's."""
    expected = blocks[0].place.part
    for block in blocks:
        if block.place.row != expected:
            return False
        expected = block.end
    return blocks[-1].place.ends_part


def _good_rows(blocks: Iterable[Block]) -> list[pa.RecordBatch]:
    """What the embeddings table has of blocks."""
    return [_numbered(block, good=True) for block in blocks]


def _bad_rows(blocks: Iterable[Block]) -> list[pa.RecordBatch]:
    """What the errors table has of blocks, as ERRORS_SCHEMA."""
    rows = (_numbered(block, good=False) for block in blocks)
    names = ERRORS_SCHEMA.names
    return [batch.select(names).cast(ERRORS_SCHEMA) for batch in rows]


def _numbered(block: Block, *, good: bool) -> pa.RecordBatch:
    """A block's good or bad rows, with their shard, row and key."""
    rows, place = block.rows, block.place
    numbers = pa.array(range(place.row, block.end), pa.int64())
    columns = {
        "shard": pa.repeat(pa.scalar(place.shard), len(numbers)),
        "row": numbers,
        "key": rows["key"].fill_null(numbers.cast(pa.string())),
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


def write_part(blocks: list[Block], *, output: str, identity: str) -> PartTotals:
    """Writes a part's one or two files, unless another bundle was first.

    The embeddings file is written last, also when no row is good: where it is, the
    part is done.

    Args:
      blocks: All of the part's, sorted by row, none twice. Emptied: the raw part is
        not held until the packed one is whole.
      output: The output's folder.
      identity: Digest of what the output's rows have in common.

    Returns:
      What the part holds.

    Raises:
      IncompletePartError: They are not all of the part's.
      OSError: The place cannot be written.
    """
    if not is_complete(blocks):
        raise IncompletePartError(f"blocks are missing of {blocks[0].place}")
    totals = _totals(blocks)
    if storage.exists(part_uri(output, EMBEDDINGS, totals.stem)):
        # By a machine of another kind its last bits may be others, and what is counted
        # must be what is there.
        return read_totals(output, totals.stem)
    description = {"identity": identity, **asdict(totals)}
    description["resume_at"] = blocks[-1].place.resume_at
    del description["digest"]
    errors = part_uri(output, ERRORS, totals.stem)
    if totals.bad:
        bad = parquet.encode(_bad_rows(blocks), description=description)
        storage.write_whole(errors, bad.content)
        description["errors_digest"] = bad.digest
    else:
        # An earlier try may have found a row bad that is good today.
        storage.remove(errors)
    rows, members = _good_rows(blocks), _members(blocks)
    blocks.clear()
    good = parquet.encode(rows, description=description, members=members)
    storage.write_whole(part_uri(output, EMBEDDINGS, totals.stem), good.content)
    return replace(totals, digest=good.digest)


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


def read_totals(output: str, stem: str) -> PartTotals:
    """What a part that is written holds, from its file's footer alone.

    Raises:
      NotOursError: The file is damaged.
    """
    with _open_part(output, stem) as source:
        description, digest = parquet.read_description(source)
    return totals_of(description, digest=digest)


@contextlib.contextmanager
def _open_part(output: str, stem: str) -> Iterator[BinaryIO]:
    """Opens a part's embeddings file; what is wrong with its bytes names it."""
    uri = part_uri(output, EMBEDDINGS, stem)
    with storage.open_input(uri) as source:
        try:
            yield source
        except parquet.NotOursError as error:
            raise parquet.NotOursError(
                f"{uri} {error}; delete it, and the next run makes it again"
            ) from error


def totals_of(description: dict[str, Any], *, digest: str) -> PartTotals:
    """The totals that a file's metadata says."""
    errors = description["errors"]
    names = ("stem", "shard", "first_row", "end_row", "last", "good")
    return PartTotals(
        **{name: description[name] for name in names},
        errors=tuple((error, rows) for error, rows in errors),
        digest=digest,
    )


def read_resume_at(output: str, stem: str) -> int | None:
    """The byte of a part's shard from which reading gives the row after the part.

    Raises:
      NotOursError: The file is damaged.
    """
    with _open_part(output, stem) as source:
        description, _ = parquet.read_description(source)
    return description["resume_at"]


def read_members(output: str, stem: str) -> dict[str, str]:
    """Versions of the plain files that a part's rows are of, by URI.

    Raises:
      NotOursError: The file is damaged.
    """
    with _open_part(output, stem) as source:
        return parquet.members_of(source)
