"""A table held against the images that it is of, row by row."""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from transforms import (
    EMBEDDINGS,
    ERRORS,
    Columns,
    DamagedShardError,
    Fault,
    File,
    PartTotals,
    Record,
    Shard,
    part_uri,
    storage,
)
from transforms.formats import read_records
from transforms.part import read_members

from .inventory import parse_stem
from .problems import Problem, span_text

Counted = Callable[[int], None]
"""Is told how many bytes of images have been compared."""


@dataclass(frozen=True)
class Task:
    """Something to read again.

    Attributes:
      shard: In the input.
      parts: Of the table, in order of rows: all of a shard file, one of a group.
      rows: Of each file of the shard, where it is a part of a group.
    """

    shard: Shard
    parts: tuple[PartTotals, ...]
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What there is to compare.

    Attributes:
      tasks: What is in both.
      problems: What is in the input, but not in the table.
      absent: Shards and plain files of the table that are not in the input.
    """

    tasks: tuple[Task, ...]
    problems: tuple[Problem, ...]
    absent: int


def match_up(
    shards: Sequence[Shard], parts: Iterable[PartTotals], *, output: str
) -> Comparison:
    """Finds what the table has of each shard.

    Args:
      shards: The input, as listed.
      parts: All of the table.
      output: Where the parts are.
    """
    by_name: dict[str, list[PartTotals]] = {}
    for part in sorted(parts, key=lambda part: part.stem):
        stem = parse_stem(part.stem)
        assert stem is not None
        by_name.setdefault(stem.name, []).append(part)
    files = {
        file.key: file
        for shard in shards
        if shard.format == "files"
        for file in shard.files
    }
    whole = [shard for shard in shards if shard.format != "files"]
    groups = {name for name, (part, *_) in by_name.items() if _is_group(part)}
    first = _match_shards(whole, {n: by_name[n] for n in by_name.keys() - groups})
    second = _match_files(
        files,
        [part for name in sorted(groups) for part in by_name[name]],
        output=output,
    )
    return Comparison(
        tasks=(*first.tasks, *second.tasks),
        problems=(*first.problems, *second.problems),
        absent=first.absent + second.absent,
    )


def _is_group(part: PartTotals) -> bool:
    return part.stem.startswith(Shard(part.shard, "files", ()).family)


def _match_shards(
    shards: Iterable[Shard], by_name: Mapping[str, list[PartTotals]]
) -> Comparison:
    tasks, problems = [], []
    families = {name.rpartition("-")[0] for name in by_name}
    absent = len(families - {shard.family for shard in shards})
    for shard in shards:
        if shard.name in by_name:
            tasks.append(Task(shard, tuple(by_name[shard.name])))
        elif shard.family in families:
            what = "has changed since its rows were made"
            problems.append(Problem("changed", shard.uri, what))
        else:
            problems.append(Problem("not_in_table", shard.uri, "is not in the table"))
    return Comparison(tuple(tasks), tuple(problems), absent)


def _match_files(
    files: Mapping[str, File], parts: Iterable[PartTotals], *, output: str
) -> Comparison:
    tasks, problems = [], []
    named, absent = set[str](), 0
    for part in parts:
        members = read_members(output, part.stem)
        named.update(members)
        same, rows = [], []
        for row, (uri, version) in enumerate(members.items(), start=part.first_row):
            if uri not in files:
                absent += 1
            elif files[uri].version != version:
                what = "has changed since its row was made"
                problems.append(Problem("changed", uri, what))
            else:
                same.append(files[uri])
                rows.append(row)
        if same:
            shard = Shard(part.shard, "files", tuple(same))
            tasks.append(Task(shard, (part,), tuple(rows)))
    problems += [
        Problem("not_in_table", uri, "is not in the table")
        for uri in sorted(files.keys() - named)
    ]
    return Comparison(tuple(tasks), tuple(problems), absent)


def compare(
    task: Task, *, columns: Columns, output: str, counted: Counted
) -> list[Problem]:
    """Reads a shard again, and holds each image against its row.

    Of a bad row the table has no digest: there the image must be of the size that is
    written, if one is. Files that are gone are passed over.

    Args:
      task: What to read.
      columns: As the run looked for them.
      output: Where the parts are.
      counted: Is told of progress.
    """
    found: list[Problem] = []
    records = _records(task.shard, columns)
    numbered = (
        zip(task.rows, records, strict=False) if task.rows else enumerate(records)
    )
    try:
        with contextlib.closing(records):
            for part in task.parts:
                found += _compare_part(
                    task, part, numbered, output=output, counted=counted
                )
            if not task.rows:
                found += _left_over(task, numbered)
    except (OSError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"cannot be read again: {text}"
        found.append(Problem("unreadable", task.shard.uri, what))
    return found


def _records(shard: Shard, columns: Columns) -> Generator[Record, None, None]:
    """A shard's rows; damage to it is the last, as in a run."""
    try:
        yield from read_records(shard, columns)
    except DamagedShardError as damage:
        yield Record(None, None, fault=Fault("read", damage.error, str(damage)))


def _compare_part(
    task: Task,
    part: PartTotals,
    records: Iterator[tuple[int, Record]],
    *,
    output: str,
    counted: Counted,
) -> Iterator[Problem]:
    said = _Said.read(output, part)
    for row in task.rows or range(part.first_row, part.end_row):
        # Rows before it are of a part that is missing.
        record = next((record for at, record in records if at >= row), None)
        if record is None:
            what = f"has no {span_text(row, part.end_row)}, which the table has"
            yield Problem("not_in_input", task.shard.uri, what)
            return
        counted(len(record.image or b""))
        what = said.differs(row, record)
        if what:
            file = f"{EMBEDDINGS}/{part.stem}.parquet"
            yield Problem("unlike_input", file, f"row {row} of {part.shard} {what}")


def _left_over(task: Task, records: Iterator[tuple[int, Record]]) -> Iterator[Problem]:
    rows = [row for row, _ in records]
    if rows:
        what = f"{span_text(rows[0], rows[-1] + 1)} are not in the table"
        yield Problem("not_in_table", task.shard.uri, what)


@dataclass(frozen=True)
class _Said:
    """What a part says of the images: digests of the good, sizes of the bad, by row."""

    digests: Mapping[int, bytes]
    sizes: Mapping[int, int | None]

    @classmethod
    def read(cls, output: str, part: PartTotals) -> "_Said":
        digests = _column(part_uri(output, EMBEDDINGS, part.stem), "sha256")
        sizes: dict[int, int | None] = {}
        if part.bad:
            sizes = _column(part_uri(output, ERRORS, part.stem), "bytes")
        return cls(digests, sizes)

    def differs(self, row: int, record: Record) -> str:
        """What is wrong with a row; empty if nothing is."""
        if row not in self.digests:
            size = self.sizes.get(row)
            if size is None or record.image is None or len(record.image) == size:
                return ""
            return f"has {len(record.image)} bytes now, not {size}"
        if record.image is None:
            return f"is no image now: {record.fault and record.fault.message}"
        if hashlib.sha256(record.image).digest() != self.digests[row]:
            return "is another image now: its sha256 differs"
        return ""


def _column(uri: str, name: str) -> dict[int, Any]:
    with storage.open_input(uri) as source:
        table = pq.read_table(source, columns=["row", name])
    return dict(zip(table["row"].to_pylist(), table[name].to_pylist(), strict=True))
