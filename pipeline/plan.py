"""The plan: what is done, what is left, what goes when the rest is whole.

Decided from one listing of the output, whichever runner made it. Only where the input
has plain files are the footers of their parts read too: a part names its files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from operator import attrgetter

from transforms import File, Shard, group_files

_STEM = re.compile(
    r"(?P<name>(?P<family>.+-(?P<kind>[gs])[0-9a-f]{16})-[0-9a-f]{10})"
    r"-(?P<first>\d{10})(?P<last>-last)?"
)
_FOOTERS_AT_ONCE = 16

Members = Mapping[str, str]
"""Versions of plain files by URI."""


@dataclass
class Table:
    """One version of a shard as far as it is in the output.

    Attributes:
      name: The shard's name.
      family: What the names of all its versions begin with.
      is_group: Of plain files.
      firsts: First rows of its parts.
      last: First row of its last part; None: not written yet.
      stems: File names of its parts, without suffix.
    """

    name: str
    family: str
    is_group: bool
    firsts: set[int] = field(default_factory=set)
    last: int | None = None
    stems: list[str] = field(default_factory=list)

    def is_complete(self, *, rows_per_part: int) -> bool:
        """Whether all parts are there."""
        return self.last is not None and self.firsts.issuperset(
            range(0, self.last + 1, rows_per_part)
        )


@dataclass(frozen=True)
class Plan:
    """What a run does with what is there.

    Attributes:
      shards: Those that need work, each told which of its parts do not.
      done: Stems of parts that stay.
      stale: Stems of parts of either table that go when all else is whole.
      elsewhere: How many shards of the output are not in this input.
    """

    shards: tuple[Shard, ...]
    done: tuple[str, ...]
    stale: tuple[str, ...]
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
      shards: The input, as listed.
      good_stems: Of the files in `embeddings/`: where one is, its part is done.
      bad_stems: Of the files in `errors/`.
      rows_per_part: Of this output.
      read_members: Gives the plain files behind a part, by its stem.
      read_resume_at: Gives the byte of its shard at which the next part begins, by
        its stem.
    """
    tables = _tables(good_stems)
    wanted, stale = list(shards), set[str]()
    if any(shard.format == "files" for shard in shards):
        groups = [table for table in tables.values() if table.is_group]
        found = _Groups.read(groups, read_members, rows_per_part=rows_per_part)
        wanted, stale = found.regroup(shards, group_size=rows_per_part)
    # Two digests each: taken once, they are half the time of a plan of a million.
    named = [shard.name for shard in wanted]
    names = set(named)
    families = {name.rpartition("-")[0] for name in names} if tables else set()
    for table in tables.values():
        if table.family in families and table.name not in names:
            stale.add(table.name)
    left = [
        _without_done(
            shard,
            tables.get(name),
            rows_per_part=rows_per_part,
            read_resume_at=read_resume_at,
        )
        for name, shard in zip(named, wanted, strict=True)
    ]
    kept = [table for name, table in tables.items() if name not in stale]
    gone = sorted(stem for name in stale for stem in tables[name].stems)
    done = {stem for table in kept for stem in table.stems}
    return Plan(
        shards=tuple(shard for shard in left if shard is not None),
        done=tuple(sorted(done)),
        stale=(*gone, *_orphans(bad_stems, done=done, names=names)),
        elsewhere=_elsewhere(kept, families=families),
    )


def _tables(stems: Iterable[str]) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for stem in sorted(stems):
        match = _STEM.fullmatch(stem)
        if match is None:  # not ours; `verify` tells
            continue
        table = tables.setdefault(
            match["name"], Table(match["name"], match["family"], match["kind"] == "g")
        )
        table.stems.append(stem)
        table.firsts.add(int(match["first"]))
        if match["last"]:
            table.last = int(match["first"])
    return tables


def _without_done(
    shard: Shard,
    table: Table | None,
    *,
    rows_per_part: int,
    read_resume_at: Callable[[str], int | None],
) -> Shard | None:
    """What is left of a shard: nothing, all of it, or what its parts do not have."""
    if table is None:
        return shard
    if table.is_complete(rows_per_part=rows_per_part):
        return None
    begun = replace(shard, done_parts=frozenset(table.firsts))
    row = 0
    while row in table.firsts:
        row += rows_per_part
    if not row or shard.format in ("files", "parquet"):
        return replace(begun, start_row=row)
    offset = read_resume_at(f"{table.name}-{row - rows_per_part:010d}")
    # It is not known of a packed shard, which has to be read from its start.
    return (
        begun if offset is None else replace(begun, start_row=row, start_offset=offset)
    )


def _orphans(
    bad_stems: Iterable[str], *, done: set[str], names: set[str]
) -> Iterator[str]:
    """Errors of parts that a run was killed over, and that none will write again."""
    for stem in sorted(set(bad_stems) - done):
        match = _STEM.fullmatch(stem)
        if match is not None and match["name"] not in names:
            yield stem


def _elsewhere(kept: Iterable[Table], *, families: set[str]) -> int:
    """How many shards stay that are not in the input; of groups none is counted.

    A group of files stays as it is when files are added or go.
    """
    return sum(not table.is_group and table.family not in families for table in kept)


@dataclass(frozen=True)
class _Groups:
    """The groups of plain files in the output, with their members.

    Attributes:
      complete: Members by name, of groups with all parts.
      begun: Members so far by name, of the others.
    """

    complete: Mapping[str, Members]
    begun: Mapping[str, Members]

    @classmethod
    def read(
        cls,
        tables: Sequence[Table],
        read_members: Callable[[str], Members],
        *,
        rows_per_part: int,
    ) -> "_Groups":
        complete: dict[str, Members] = {}
        begun: dict[str, Members] = {}
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            for table in tables:
                members: dict[str, str] = {}
                for part in pool.map(read_members, table.stems):
                    members.update(part)
                whole = table.is_complete(rows_per_part=rows_per_part)
                (complete if whole else begun)[table.name] = members
        return cls(complete, begun)

    def regroup(
        self, shards: Sequence[Shard], *, group_size: int
    ) -> tuple[list[Shard], set[str]]:
        """Groups the files that no complete group of the output has as they are.

        A file that is gone leaves its row. One that changed takes its group with it,
        whose other files are read again with it.

        Returns:
          The shards that may need work, and the names of the groups that go.
        """
        files = {
            file.key: file
            for shard in shards
            if shard.format == "files"
            for file in shard.files
        }
        stale, claimed = set[str](), set[str]()
        for name in sorted(self.complete):
            members = self.complete[name]
            if claimed.isdisjoint(members) and not _changed(members, files):
                claimed.update(members)
            else:
                stale.add(name)
        unclaimed = [files[key] for key in files.keys() - claimed]
        unclaimed.sort(key=attrgetter("uri"))
        grouped = list(group_files(unclaimed, group_size=group_size))
        names = {shard.name for shard in grouped}
        stale.update(
            name
            for name, members in self.begun.items()
            if name not in names and not files.keys().isdisjoint(members)
        )
        others = [shard for shard in shards if shard.format != "files"]
        return [*others, *grouped], stale


def _changed(members: Members, files: Mapping[str, File]) -> bool:
    return any(
        uri in files and files[uri].version != version
        for uri, version in members.items()
    )
