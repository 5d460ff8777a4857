"""The plan does what is missing, replaces what changed, keeps what is gone."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from pipeline.plan import Plan, make_plan
from transforms import File, Shard, group_files

ROWS = 4
"""Of a part, and of a group on average."""


def _tar(uri: str, *, updated: float = 1.0) -> Shard:
    return Shard(uri, "tar", (File(uri, 100, updated),))


def _files(*numbers: int, updated: float = 1.0) -> list[File]:
    return [File(f"/in/{number:06d}.jpg", 9, updated) for number in sorted(numbers)]


def _groups(files: Iterable[File]) -> list[Shard]:
    return list(group_files(files, group_size=ROWS))


def _stems(shard: Shard, rows: int) -> list[str]:
    """Of all parts of a shard."""
    firsts = range(0, max(1, rows), ROWS)
    return [
        f"{shard.name}-{first:010d}" + ("-last" if first == firsts[-1] else "")
        for first in firsts
    ]


@dataclass
class _Output:
    """An output as far as a plan looks at it: parts, and the files behind each."""

    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)
    offsets: dict[str, int] = field(default_factory=dict)

    def plan(self, *shards: Shard) -> Plan:
        return make_plan(
            shards,
            good_stems=self.parts,
            bad_stems=self.errors,
            rows_per_part=ROWS,
            read_members=lambda stem: self.parts[stem],
            read_resume_at=self.offsets.get,
        )

    def add(self, shard: Shard, *, rows: int | None = None) -> None:
        """Writes all parts of a shard."""
        count = len(shard.files) if rows is None else rows
        for number, stem in enumerate(_stems(shard, count)):
            self.parts[stem] = self.members(shard, number * ROWS)

    def members(self, shard: Shard, first: int) -> dict[str, str]:
        if shard.format != "files":
            return {}
        return {each.uri: each.version for each in shard.files[first : first + ROWS]}

    def carry_out(self, plan: Plan) -> None:
        """Does what a run does."""
        for shard in plan.shards:
            self.add(shard)
        for stem in plan.stale:
            self.parts.pop(stem, None)
            self.errors.discard(stem)


def _uris(plan: Plan) -> list[str]:
    return sorted(file.uri for shard in plan.shards for file in shard.files)


def test_in_an_empty_output_all_is_left() -> None:
    shards = [_tar("/a.tar"), *_groups(_files(*range(9)))]
    plan = _Output().plan(*shards)
    assert list(plan.shards) == shards
    assert (plan.done, plan.stale, plan.elsewhere) == ((), (), 0)


def test_what_is_whole_is_not_done_again() -> None:
    output, tar = _Output(), _tar("/a.tar")
    groups = _groups(_files(*range(30)))
    output.add(tar, rows=10)
    for group in groups:
        output.add(group)
    plan = output.plan(tar, *groups)
    assert plan.shards == ()
    assert plan.done == tuple(sorted(output.parts))
    assert plan.stale == ()


@pytest.mark.parametrize(
    ("missing", "done"), [(0, {4, 8}), (1, {0, 8}), (2, {0, 4}), (None, {0, 4, 8})]
)
def test_only_missing_parts_are_left(missing: int | None, done: set[int]) -> None:
    output, tar = _Output(), _tar("/a.tar")
    output.add(tar, rows=10)
    if missing is None:  # then nothing is left either
        assert output.plan(tar).shards == ()
        return
    del output.parts[_stems(tar, 10)[missing]]
    [shard] = output.plan(tar).shards
    assert shard.done_parts == done
    assert (shard.uri, shard.files) == (tar.uri, tar.files)


def test_a_shard_is_read_on_from_its_first_missing_part() -> None:
    output, tar = _Output(), _tar("/a.tar")
    output.add(tar, rows=10)
    first, second, last = _stems(tar, 10)
    del output.parts[last]
    output.offsets = {first: 700, second: 900}
    [shard] = output.plan(tar).shards
    assert (shard.start_row, shard.start_offset) == (8, 900)
    del output.parts[second]
    [shard] = output.plan(tar).shards
    assert (shard.start_row, shard.start_offset) == (4, 700)


def test_a_packed_shard_is_read_from_its_start() -> None:
    output, tar = _Output(), _tar("/a.tar")
    output.add(tar, rows=10)
    del output.parts[_stems(tar, 10)[-1]]
    [shard] = output.plan(tar).shards
    assert (shard.start_row, shard.start_offset) == (0, 0)
    assert shard.done_parts == {0, 4}


def test_what_comes_after_a_missing_part_is_no_start() -> None:
    output, tar = _Output(), _tar("/a.tar")
    output.add(tar, rows=10)
    output.offsets = dict.fromkeys(_stems(tar, 10), 900)
    del output.parts[_stems(tar, 10)[0]]
    [shard] = output.plan(tar).shards
    assert (shard.start_row, shard.start_offset) == (0, 0)


def test_parts_of_a_group_are_resumed_like_any() -> None:
    output = _Output()
    group = Shard("/in#1", "files", tuple(_files(*range(10))))
    [whole] = _groups_of(group)
    output.add(whole)
    del output.parts[_stems(whole, 10)[1]]
    [shard] = output.plan(whole).shards
    assert shard.name == whole.name
    assert shard.done_parts == {0, 8}


def _groups_of(shard: Shard) -> list[Shard]:
    """The group that files make if none of them begins another."""
    numbers = [n for n in range(100_000) if len(_groups(_files(0, n))) == 1][:10]
    return _groups(_files(*numbers))


def test_a_shard_that_changed_is_done_again_and_its_old_parts_go() -> None:
    output, old, new = _Output(), _tar("/a.tar"), _tar("/a.tar", updated=2.0)
    other = _tar("/b.tar")
    output.add(old, rows=10)
    output.add(other, rows=3)
    plan = output.plan(new, other)
    assert plan.shards == (new,)
    assert plan.stale == tuple(_stems(old, 10))
    assert plan.done == tuple(_stems(other, 3))
    assert plan.elsewhere == 0


def test_after_a_crash_a_new_version_is_gone_on_with() -> None:
    output, old, new = _Output(), _tar("/a.tar"), _tar("/a.tar", updated=2.0)
    output.add(old, rows=10)
    output.add(new, rows=10)
    first, *_, last = _stems(new, 10)
    del output.parts[last]
    plan = output.plan(new)
    [shard] = plan.shards
    assert shard.done_parts == {0, 4}
    assert plan.stale == tuple(_stems(old, 10))
    assert first in plan.done


def test_after_a_crash_before_the_end_only_the_old_goes() -> None:
    output, old, new = _Output(), _tar("/a.tar"), _tar("/a.tar", updated=2.0)
    output.add(old, rows=10)
    output.add(new, rows=6)
    plan = output.plan(new)
    assert plan.shards == ()
    assert plan.done == tuple(_stems(new, 6))
    assert plan.stale == tuple(_stems(old, 10))


def test_a_shard_that_is_gone_stays_and_is_counted() -> None:
    output, tar, other = _Output(), _tar("/a.tar"), _tar("/b.tar")
    output.add(tar, rows=10)
    plan = output.plan(other)
    assert plan.shards == (other,)
    assert plan.done == tuple(_stems(tar, 10))
    assert (plan.stale, plan.elsewhere) == ((), 1)


def test_shards_of_one_name_in_two_folders_are_two() -> None:
    output, one, two = _Output(), _tar("/1/a.tar"), _tar("/2/a.tar", updated=2.0)
    output.add(one, rows=1)
    plan = output.plan(one, two)
    assert plan.shards == (two,)
    assert plan.stale == ()


def test_new_files_cost_only_themselves() -> None:
    output = _Output()
    output.carry_out(output.plan(*_groups(_files(*range(0, 2_000, 2)))))
    before = set(output.parts)
    new = random.Random(1).sample(range(1, 2_000, 2), 10)
    listed = _groups(_files(*range(0, 2_000, 2), *new))
    plan = output.plan(*listed)
    assert _uris(plan) == [file.uri for file in _files(*new)]
    assert plan.stale == ()
    output.carry_out(plan)
    assert before < set(output.parts)
    assert output.plan(*listed).shards == ()


def test_a_file_that_changed_costs_its_group() -> None:
    output = _Output()
    files = _files(*range(200))
    output.carry_out(output.plan(*_groups(files)))
    old = [stem for stem, members in output.parts.items() if files[77].uri in members]
    files[77] = File(files[77].uri, 9, 2.0)
    plan = output.plan(*_groups(files))
    [shard] = [group for group in _groups(files) if files[77] in group.files]
    assert plan.shards == (shard,)
    assert set(old) <= set(plan.stale)
    assert {stem.rsplit("-g")[1][:16] for stem in plan.stale} == {
        old[0].rsplit("-g")[1][:16]
    }


def test_a_file_that_is_gone_leaves_its_row() -> None:
    output = _Output()
    output.carry_out(output.plan(*_groups(_files(*range(200)))))
    left = set(range(200)) - {50, 51, 120}
    plan = output.plan(*_groups(_files(*left)))
    assert (plan.shards, plan.stale) == ((), ())
    assert plan.done == tuple(sorted(output.parts))


def test_a_group_that_was_begun_goes_when_its_files_are_grouped_anew() -> None:
    output = _Output()
    [group] = _groups_of(Shard("", "files", ()))
    output.add(group)
    begun = _stems(group, 10)[:2]
    output.parts = {stem: output.parts[stem] for stem in begun}
    left = _groups(group.files[1:])
    plan = output.plan(*left)
    assert list(plan.shards) == left
    assert plan.stale == tuple(begun)


def test_errors_without_embeddings_go_unless_they_will_be_written_again() -> None:
    output, old, new = _Output(), _tar("/a.tar"), _tar("/a.tar", updated=2.0)
    gone, whole = _tar("/gone.tar"), _tar("/b.tar")
    output.add(whole, rows=1)
    output.errors = {
        *_stems(old, 1),
        *_stems(new, 1),
        *_stems(gone, 1),
        *_stems(whole, 1),
    }
    plan = output.plan(new, whole)
    assert plan.shards == (new,)
    assert sorted(plan.stale) == sorted([*_stems(old, 1), *_stems(gone, 1)])


def test_files_that_are_not_ours_are_left_alone() -> None:
    output = _Output({"theirs": {}, "a_tar-s0-1-0000000000": {}})
    plan = output.plan(_tar("/a.tar"))
    assert (plan.done, plan.stale, plan.elsewhere) == ((), (), 0)


def _crash(output: _Output, plan: Plan, dice: random.Random) -> None:
    """Writes some of the parts, of which the rows of some are bad, and is killed."""
    parts = [
        (shard, number * ROWS, stem)
        for shard in plan.shards
        for number, stem in enumerate(_stems(shard, len(shard.files)))
        if number * ROWS not in shard.done_parts
    ]
    for shard, first, stem in dice.sample(parts, dice.randint(0, len(parts))):
        output.parts[stem] = output.members(shard, first)
    if parts and dice.random() < 0.5:
        output.errors.add(dice.choice(parts)[2])
    if not output.plan(*plan.shards).shards:
        stale = dice.sample(plan.stale, dice.randint(0, len(plan.stale)))
        for stem in stale:
            output.parts.pop(stem, None)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_each_file_is_there_once_as_it_is(seed: int) -> None:
    dice = random.Random(seed)
    output, now = _Output(), {number: 1.0 for number in range(60)}
    for step in range(30):
        for number in dice.sample(range(200), dice.choice([0, 0, 1, 5])):
            now[number] = float(step + 2)
        for number in dice.sample(sorted(now), dice.choice([0, 0, 1, 3])):
            del now[number]
        files = [File(f"/in/{n:06d}.jpg", 9, now[n]) for n in sorted(now)]
        shards = [*_groups(files), _tar("/a.tar")]
        plan = output.plan(*shards)
        if dice.random() < 0.6:
            _crash(output, plan, dice)
            continue
        output.carry_out(plan)
        found = [
            (uri, version)
            for members in output.parts.values()
            for uri, version in members.items()
        ]
        assert len({uri for uri, _ in found}) == len(found)
        assert {(file.uri, file.version) for file in files} <= set(found)
        assert output.errors <= set(output.parts)
        again = output.plan(*shards)
        assert (again.shards, again.stale) == ((), ())
