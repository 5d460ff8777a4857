"""The groups of plain files in an output: which stay, and what they leave to group."""

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from transforms import Shards, group_files
from transforms.files import Files
from transforms.threads import in_threads

from .parts import Parts

THREADS = 32
"""Footers in flight: a store answers each after tens of milliseconds."""

_DIGEST = 16

Members = Mapping[str, str]
"""Versions of plain files by URI."""


class _Met(NamedTuple):
    """Which files of the input a part has.

    Attributes:
      rows: Theirs in the table of files.
      gone: Digests of the names of its other files, one after the other.
      has_changed: Whether the version of one is another now.
    """

    rows: "array[int]"
    gone: bytes
    has_changed: bool

    @classmethod
    def sum(cls, several: Iterable["_Met"]) -> "_Met":
        """What several parts have."""
        rows, gone, has_changed = array("q"), bytearray(), False
        for met in several:
            rows += met.rows
            gone += met.gone
            has_changed = has_changed or met.has_changed
        return cls(rows, bytes(gone), has_changed)


class _Index:
    """Finds files by the names that the table has of them."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._odd: dict[str, int] = {}
        if not files.uris.is_text:
            keys = ((row, file.uri, file.key) for row, file in enumerate(files))
            self._odd = {key: row for row, uri, key in keys if key != uri}

    def meet(self, members: Members) -> _Met:
        """Looks files up; quick where they follow each other in the table."""
        uris, rows, gone = self._files.uris, array("q"), bytearray()
        has_changed, near = False, 0
        for key, version in members.items():
            row = self._odd.get(key, -1)
            if row < 0:
                row = near = uris.place(key, near=near)
                if not uris.is_at(row, key):
                    gone += _digest(key)
                    continue
                near += 1
            rows.append(row)
            has_changed = has_changed or self._files.version(row) != version
        return _Met(rows, bytes(gone), has_changed)


def _digest(key: str) -> bytes:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=_DIGEST).digest()


@dataclass(frozen=True)
class Grouping:
    """What becomes of groups.

    Attributes:
      shards: The input, its plain files grouped as far as no group stays for them.
      replaced: bool, of each version of a shard in the output: a group that was whole
        and goes.
      begun: bool, of each: a group that was not, and has files of the input.
    """

    shards: Shards
    replaced: np.ndarray
    begun: np.ndarray


def regroup(
    shards: Shards,
    parts: Parts,
    *,
    rows_per_part: int,
    read_members: Callable[[str], Members],
) -> Grouping:
    """Groups the files that no complete group of the output has as they are.

    A file that is gone leaves its row. One that changed takes its group with it,
    whose other files are read again with it. Where no group stays, the files are
    grouped as they were listed.

    Args:
      shards: The input.
      parts: Of the output.
      rows_per_part: Of the output, and files of a group.
      read_members: Gives the plain files behind a part, by its stem; is called in
        several threads at once.
    """
    replaced, begun = np.zeros(len(parts), bool), np.zeros(len(parts), bool)
    files, claims = shards.files_of("files"), _Claims()
    if not len(files):
        return Grouping(shards, replaced, begun)
    for row, met in _meet_all(files, parts, read_members=read_members):
        if parts.table(row).is_complete(rows_per_part=rows_per_part):
            claims.add(row, met)
        else:
            begun[row] = len(met.rows) > 0
    taken = np.zeros(len(files), bool)
    replaced[claims.settle(taken)] = True
    if taken.any():
        left = files.take(np.flatnonzero(~taken))
        groups = group_files(left, group_size=rows_per_part)
        shards = Shards.in_order([shards.but_of("files"), groups])
    return Grouping(shards, replaced, begun)


def _meet_all(
    files: Files, parts: Parts, *, read_members: Callable[[str], Members]
) -> Iterator[tuple[int, _Met]]:
    """The groups of the output, each with what it has of the files."""
    index, rows = _Index(files), np.flatnonzero(parts.is_group).tolist()
    stems = (stem for row in rows for stem in parts.stems_of(row))
    found = in_threads(
        lambda stem: index.meet(read_members(stem)), stems, threads=THREADS, name="plan"
    )
    for row in rows:
        yield row, _Met.sum(itertools.islice(found, len(parts.stems_of(row))))


class _Claims:
    """What whole groups have of the files, in columns."""

    def __init__(self) -> None:
        self._groups: list[tuple[int, bool]] = []
        self._rows, self._row_ends = array("q"), [0]
        self._gone, self._gone_ends = bytearray(), [0]

    def add(self, group: int, met: _Met) -> None:
        """Takes a group, in the order of their names."""
        self._groups.append((group, met.has_changed))
        self._rows += met.rows
        self._row_ends.append(len(self._rows))
        self._gone += met.gone
        self._gone_ends.append(len(self._gone) // _DIGEST)

    def settle(self, taken: np.ndarray) -> list[int]:
        """Marks the files of the groups that stay.

        Returns:
          The groups that go: a file of theirs has changed, or is another's too.
        """
        rows = np.asarray(self._rows)
        # Usually none: a group whose file has changed goes when the run is done.
        gone = np.array(np.frombuffer(self._gone or bytes(_DIGEST), f"S{_DIGEST}"))
        shared = _twice(gone)
        claimed, going = set[bytes](), list[int]()
        spans = zip(
            self._groups,
            itertools.pairwise(self._row_ends),
            itertools.pairwise(self._gone_ends),
            strict=True,
        )
        for (group, has_changed), (begin, end), (first, last) in spans:
            mine = shared.intersection(gone[first:last].tolist()) if shared else shared
            here = rows[begin:end]
            if has_changed or taken[here].any() or not claimed.isdisjoint(mine):
                going.append(group)
            else:
                taken[here] = True
                claimed |= mine
        return going


def _twice(values: np.ndarray) -> set[bytes]:
    found, counts = np.unique(values, return_counts=True)
    return set(found[counts > 1].tolist())
