"""Planning for many objects: few of them in memory, and footers many at once."""

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from apache_beam.io.filesystem import FileMetadata

from pipeline.plan import make_plan
from transforms import File, Listing, Shard, pack_shards, pack_stems
from transforms.listing import list_shards

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
COUNT = 100_000
ROWS = 512


def _count() -> int:
    kinds = (File, Shard, FileMetadata)
    return sum(type(each) in kinds for each in gc.get_objects())


class _Alive:
    """How many new objects there are, at most, of the kinds that files could be."""

    def __init__(self) -> None:
        self.most, self._before = 0, _count()

    def look(self) -> None:
        self.most = max(self.most, _count() - self._before)

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Gives the items; looks at each of some."""
        for number, item in enumerate(items):
            if number % (COUNT // 4) == COUNT // 4 - 1:
                self.look()
            yield item
        self.look()


def _listed(suffix: str, alive: _Alive, *, count: int = COUNT) -> Listing:
    found = (
        FileMetadata(f"gs://b/{number:06d}.{suffix}", 9, number / 7)
        for number in range(count)
    )
    return list_shards(
        ["gs://b/*"], group_size=ROWS, match=lambda _: alive.watch(found)
    )


def test_the_counter_of_what_is_alive_counts() -> None:
    alive = _Alive()
    held = list(_listed("tar", alive, count=3_000).shards)
    alive.look()
    assert 6_000 <= alive.most < 7_000 and len(held) == 3_000


@pytest.mark.parametrize(("suffix", "most"), [("jpg", 100), ("tar", 100)])
def test_no_more_than_a_few_are_alive(suffix: str, most: int) -> None:
    alive = _Alive()
    listing = _listed(suffix, alive)
    done = (
        f"{shard.name}-{0:010d}" + ("-last" if number % 3 else "")
        for number, shard in enumerate(listing.shards)
        if number % 2 and shard.format == "tar"
    )
    plan = make_plan(
        listing.shards,
        good_stems=alive.watch(done),
        bad_stems=(),
        rows_per_part=ROWS,
        read_members=lambda stem: {},
        read_resume_at=lambda stem: 1,
    )
    chunks = pack_shards(alive.watch(plan.shards))
    assert len(plan.shards) + len(plan.done) >= len(listing.shards)
    assert len(chunks) > 10
    assert len(pack_stems(plan.done)) == -(-len(plan.done) // 4096)
    assert alive.most < most


@pytest.mark.parametrize(("kind", "megabytes"), [("images", 42), ("tar", 60)])
def test_a_start_takes_little_more_than_the_names(kind: str, megabytes: int) -> None:
    command = ["-m", "benchmarks.listing", "--one", kind, str(COUNT)]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # Of 100,000 names, 3.4; of Beam's graph without any, 11. Once it was 47 and 112.
    assert json.loads(done.stdout)["memory_mb"] < megabytes


class _Store:
    """Answers for footers, and counts how many are asked for at once."""

    def __init__(self) -> None:
        self.most = self.asked = self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.asked += 1
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


def test_starts_of_begun_shards_are_read_many_at_once_and_kept_apart() -> None:
    shards = _listed("tar", _Alive(), count=400).shards
    store = _Store()

    def read_resume_at(stem: str) -> int:
        with store:
            return int(stem[:6])

    plan = make_plan(
        shards,
        good_stems=[f"{shard.name}-{0:010d}" for shard in shards],
        bad_stems=(),
        rows_per_part=ROWS,
        read_members=lambda stem: {},
        read_resume_at=read_resume_at,
    )
    starts = [(s.start_row, s.start_offset, s.done_parts) for s in plan.shards]
    assert starts == [(ROWS, number, {0}) for number in range(400)]
    assert store.asked == 400 and 16 < store.most <= 32


def test_members_of_groups_are_read_many_at_once() -> None:
    shards = _listed("jpg", _Alive(), count=50_000).shards
    groups = {f"{shard.name}-{0:010d}-last": shard for shard in shards}
    store = _Store()

    def read_members(stem: str) -> dict[str, str]:
        with store:
            return {file.uri: file.version for file in groups[stem].files}

    plan = make_plan(
        shards,
        good_stems=groups,
        bad_stems=(),
        rows_per_part=100_000,
        read_members=read_members,
        read_resume_at=lambda stem: None,
    )
    assert (plan.shards, plan.stale) == ((), ())
    assert plan.done == sorted(groups)
    assert store.asked == len(groups) > 64 and 16 < store.most <= 32


def test_a_footer_that_cannot_be_read_ends_the_plan_with_its_error() -> None:
    shards = _listed("tar", _Alive(), count=400).shards
    asked = []

    def read_resume_at(stem: str) -> int:
        asked.append(stem)
        raise OSError(f"cannot read {stem[:6]}")

    with pytest.raises(OSError, match="cannot read 000000"):
        make_plan(
            shards,
            good_stems=[f"{shard.name}-{0:010d}" for shard in shards],
            bad_stems=(),
            rows_per_part=ROWS,
            read_members=lambda stem: {},
            read_resume_at=read_resume_at,
        )
    assert len(asked) <= 33
