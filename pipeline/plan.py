"""The plan: what is done, what is left, what goes when the rest is whole.

Decided from one listing of the output, whichever runner made it. Footers of parts are
read only where the input has plain files, as a part names its files, and of a shard
that was begun, as a part says where the next begins.

The input and the output may each have a million of what is planned. So both are tables
(`Shards`, `Strings`), the plan is rows of them, and a Shard is there while it is looked
at.
"""

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from transforms import Shard, Shards
from transforms.lazy import Lazy
from transforms.strings import Strings
from transforms.threads import in_threads

from .groups import THREADS, Members, regroup
from .parts import Parts, Table

_CHUNK = 1024
"""Shards that are looked at together."""


@dataclass(frozen=True)
class Plan:
    """What a run does with what is there.

    Attributes:
      shards: Those that need work, each told which of its parts do not.
      done: Stems of parts that stay.
      stale: Stems of files of either table that go when all else is whole; twice where
        a part has both.
      elsewhere: How many shards of the output are not in this input.
    """

    shards: Sequence[Shard]
    done: Sequence[str]
    stale: Sequence[str]
    elsewhere: int


def make_plan(
    shards: Sequence[Shard],
    *,
    good_stems: Iterable[str],
    bad_stems: Iterable[str],
    rows_per_part: int,
    read_members: Callable[[str], Members],
    read_resume_at: Callable[[str], int | None],
) -> Plan:
    """Compares what is asked for with what is there.

    Args:
      shards: The input, as listed; plain files in groups of `rows_per_part`.
      good_stems: Of the files in `embeddings/`: where one is, its part is done.
      bad_stems: Of the files in `errors/`.
      rows_per_part: Of this output.
      read_members: Gives the plain files behind a part, by its stem. Both are called
        in several threads at once.
      read_resume_at: Gives the byte of its shard at which the next part begins, by
        its stem.
    """
    parts, bad = Parts(good_stems), Strings.of(bad_stems).once()
    # Errors of parts that a run was killed over.
    lonely = Parts(stem for stem, is_in in _held(bad, parts.stems) if not is_in)
    grouping = regroup(
        Shards.of(shards),
        parts,
        rows_per_part=rows_per_part,
        read_members=read_members,
    )
    left = _left(
        _Looking(grouping.shards, parts, lonely, rows_per_part),
        read_resume_at=read_resume_at,
    )
    goes = (parts.is_known | grouping.begun) & ~parts.is_wanted | grouping.replaced
    gone = _Picked(parts.stems, parts.rows_of(goes))
    errors = Strings(stem for stem, is_in in _held(gone, bad) if is_in)
    # None will write these again.
    for stem in _Picked(lonely.stems, lonely.rows_of(~lonely.is_wanted)):
        errors.append(stem)
    return Plan(
        shards=left,
        done=_Picked(parts.stems, parts.rows_of(~goes)),
        stale=Strings(itertools.chain(gone, errors.once())),
        # A group stays as it is when files are added or go: none is counted.
        elsewhere=int((~goes & ~parts.is_known & ~parts.is_group).sum()),
    )


def _held(stems: Iterable[str], others: Strings) -> Iterator[tuple[str, bool]]:
    """Each with whether it is among the others; both are in order."""
    near = 0
    for stem in stems:
        near = others.place(stem, near=near)
        yield stem, others.is_at(near, stem)


class _Begun(NamedTuple):
    """A shard that some parts are there of; its place among those that are planned."""

    place: int
    form: str
    table: Table


class _Start(NamedTuple):
    """What is known of such a shard."""

    done_parts: frozenset[int]
    row: int = 0
    offset: int = 0


@dataclass(frozen=True)
class _Looking:
    """What is compared.

    Attributes:
      shards: That are asked for.
      parts: That are there; what is met of them is marked.
      lonely: Errors of no part; marked too.
      rows_per_part: Of the output.
    """

    shards: Shards
    parts: Parts
    lonely: Parts
    rows_per_part: int

    def begun(self, left: "array[int]") -> Iterator[_Begun]:
        """Walks the shards: those that were begun come out.

        Args:
          left: Gets the places of all that need work.
        """
        places = itertools.count()
        # No Shard is kept: many small objects keep the garbage collector busy.
        named = ((shard.name, shard.format) for shard in self.shards)
        while chunk := list(itertools.islice(named, _CHUNK)):
            names = [name for name, _ in chunk]
            self.lonely.meet(names)
            rows = self.parts.meet(names)
            for (_, form), row, place in zip(chunk, rows, places, strict=False):
                table = None if row is None else self.parts.table(row)
                if table and table.is_complete(rows_per_part=self.rows_per_part):
                    continue
                left.append(place)
                if table:
                    yield _Begun(place, form, table)

    def start(
        self, begun: _Begun, *, read_resume_at: Callable[[str], int | None]
    ) -> tuple[int, _Start]:
        """Where a shard that was begun is gone on with, by its place."""
        table, row = begun.table, 0
        while row in table.firsts:
            row += self.rows_per_part
        if not row or begun.form in ("files", "parquet"):
            return begun.place, _Start(table.firsts, row)
        offset = read_resume_at(f"{table.name}-{row - self.rows_per_part:010d}")
        # It is not known of a packed shard, which has to be read from its start.
        if offset is None:
            return begun.place, _Start(table.firsts)
        return begun.place, _Start(table.firsts, row, offset)


def _left(
    looking: _Looking, *, read_resume_at: Callable[[str], int | None]
) -> Sequence[Shard]:
    """The shards that need work."""
    if not len(looking.parts) and not len(looking.lonely):
        return looking.shards
    places = array("q")
    starts = in_threads(
        partial(looking.start, read_resume_at=read_resume_at),
        looking.begun(places),
        threads=THREADS,
        name="plan",
    )
    return _Left(looking.shards, dict(starts), places)


class _Left(Lazy[Shard]):
    """Some of the shards, told which of their parts are done."""

    def __init__(
        self, shards: Shards, starts: Mapping[int, _Start], places: "array[int]"
    ) -> None:
        self._shards, self._starts, self._places = shards, starts, places

    def __len__(self) -> int:
        return len(self._places)

    def at(self, row: int) -> Shard:
        place = self._places[row]
        shard, start = self._shards.at(place), self._starts.get(place)
        if start is None:
            return shard
        return replace(
            shard,
            done_parts=start.done_parts,
            start_row=start.row,
            start_offset=start.offset,
        )


class _Picked(Lazy[str]):
    """Some of the strings."""

    def __init__(self, strings: Strings, rows: np.ndarray) -> None:
        self._strings = strings
        self._rows = rows.astype(np.int64).data

    def __len__(self) -> int:
        return len(self._rows)

    def at(self, row: int) -> str:
        return self._strings.at(self._rows[row])
