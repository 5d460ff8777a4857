"""Parts: the files of the output, and what they hold."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from . import parquet, storage
from .block import Block, Place

EMBEDDINGS, ERRORS = "embeddings", "errors"
"""Folders of the two tables."""

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
