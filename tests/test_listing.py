"""Globs, files and folders become shards: nothing twice, and groups that stay."""

import os
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from tests.shards import write_files
from transforms.listing import InputError, group_files, list_shards
from transforms.shard import File, Shard


def _bucket(*uris: str) -> Callable[[str], Iterable[FileMetadata]]:
    """A store with these objects, that matches as Beam's does."""

    def match(pattern: str) -> list[FileMetadata]:
        wanted = re.compile(FileSystem.translate_pattern(pattern))
        return [FileMetadata(uri, 5, 9.0) for uri in uris if wanted.match(uri)]

    return match


def _beam_error(inner: Exception) -> BeamIOError:
    return BeamIOError("Match operation failed", {"pattern": inner})


def _named(shards: Iterable[Shard], root: Path | str) -> list[tuple[str, str]]:
    return [(shard.uri.removeprefix(f"{root}/"), shard.format) for shard in shards]


def _members(shards: Iterable[Shard]) -> list[list[str]]:
    return [[file.uri for file in shard.files] for shard in shards]


def _files(*numbers: int) -> list[File]:
    return [File(f"gs://b/f/{number:09}.jpg", 1, 1.0) for number in sorted(numbers)]


def test_a_folder_is_all_below_it_by_what_names_tell(tmp_path: Path) -> None:
    names = [
        "b.tar",
        "d/a.parquet",
        "d/e/c.tfrecord-00000-of-00001",
        "n.json",
        "README",
    ]
    write_files(tmp_path, dict.fromkeys(names, b"12345"))
    listing = list_shards([str(tmp_path)])
    assert _named(listing.shards, tmp_path) == [
        ("b.tar", "tar"),
        ("d/a.parquet", "parquet"),
        ("d/e/c.tfrecord-00000-of-00001", "tfrecord"),
    ]
    assert listing.ignored == {".json": 1, "": 1}
    updated = (tmp_path / "b.tar").stat().st_mtime
    assert listing.shards[0].files == (File(f"{tmp_path}/b.tar", 5, updated),)


def test_local_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"d/a.tar": b""})
    monkeypatch.chdir(tmp_path)
    for text in ("d/a.tar", "d", "./d/", "d/*.tar", "d/../d/a.tar"):
        assert list_shards([text]).shards[0].uri == f"{tmp_path}/d/a.tar"


def test_a_star_stays_in_its_folder_and_two_do_not(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.tar": b"", "d/b.tar": b"", "d/e/c.tar": b""})
    star = list_shards([f"{tmp_path}/*.tar"])
    assert _named(star.shards, tmp_path) == [("a.tar", "tar")]
    two = list_shards([f"{tmp_path}/**.tar"])
    assert [name for name, _ in _named(two.shards, tmp_path)] == [
        "a.tar",
        "d/b.tar",
        "d/e/c.tar",
    ]


def test_an_object_that_two_inputs_match_counts_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.tar": b"", "i.jpg": b""})
    inputs = [
        f"{tmp_path}/a.tar",
        f"{tmp_path}/*",
        str(tmp_path),
        f"{tmp_path}/./i.jpg",
    ]
    listing = list_shards(inputs)
    assert [shard.format for shard in listing.shards] == ["files", "tar"]
    assert _members(listing.shards) == [[f"{tmp_path}/i.jpg"], [f"{tmp_path}/a.tar"]]


def test_a_path_that_exists_is_no_glob(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"[1].jpg": b"", "1.jpg": b"", "[d]/*.jpg": b"", "d/2.jpg": b""}
    )
    (shard,) = list_shards([f"{tmp_path}/[1].jpg"]).shards
    assert [file.uri for file in shard.files] == [f"{tmp_path}/[1].jpg"]
    (shard,) = list_shards([f"{tmp_path}/[d]"]).shards
    assert [file.uri for file in shard.files] == [f"{tmp_path}/[d]/*.jpg"]
    (shard,) = list_shards([f"{tmp_path}/[12].jpg"]).shards
    assert [file.uri for file in shard.files] == [f"{tmp_path}/1.jpg"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    root = tmp_path / ".cache"
    write_files(root, {".a.tar": b"", ".git/b.tar": b"", "c.tar": b"", "._c.tar": b""})
    assert _named(list_shards([str(root)]).shards, root) == [("c.tar", "tar")]
    assert list_shards([f"{root}/.a.tar"]).shards[0].uri == f"{root}/.a.tar"


def test_a_format_that_is_given_holds_for_all(tmp_path: Path) -> None:
    write_files(tmp_path, {"train-00000-of-00002": b"", "x.tar": b""})
    listing = list_shards([str(tmp_path)], form="tfrecord")
    assert [shard.format for shard in listing.shards] == ["tfrecord", "tfrecord"]
    assert listing.ignored == {}


def test_one_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"data.bin": b""})
    with pytest.raises(InputError) as refused:
        list_shards([f"{tmp_path}/data.bin"])
    assert str(refused.value) == (
        f"the name of {tmp_path}/data.bin does not tell its format: give --input_format"
    )
    assert len(list_shards([f"{tmp_path}/data.bin"], form="tar").shards) == 1


@pytest.mark.parametrize(
    "name", ["*.parquet", "no/such/folder", "no.tar", "d", "a.tar/*"]
)
def test_what_matches_nothing_is_refused(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {"a.tar": b"", "d/x.json": b""})
    with pytest.raises(InputError) as refused:
        list_shards([f"{tmp_path}/a.tar", f"{tmp_path}/{name}"])
    assert f"{tmp_path}/{name}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"a.tar": b"", "d/b.tar": b""})
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("/d"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match="PermissionError"):
        list_shards([str(tmp_path)])


def test_files_that_go_and_links_to_nothing_are_passed_over(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.tar": b""})
    (tmp_path / "b.tar").symlink_to(tmp_path / "gone")
    assert _named(list_shards([str(tmp_path)]).shards, tmp_path) == [("a.tar", "tar")]


def test_a_name_that_is_not_utf8_is_listed(tmp_path: Path) -> None:
    for name in (b"gr\xfcn.tar", b"bl\xe4u.jpg"):
        with open(bytes(tmp_path) + b"/" + name, "wb"):
            pass
    group, tar = list_shards([str(tmp_path)]).shards
    assert tar.uri == f"{tmp_path}/gr\\xfcn.tar"
    assert os.path.exists(tar.files[0].uri) and os.path.exists(group.files[0].uri)
    group.uri.encode()


def test_a_bucket_has_folders_without_a_slash_and_marks_for_them() -> None:
    match = _bucket("gs://b/d/", "gs://b/d/a.tar", "gs://b/d/e/b.tar", "gs://b/dx.tar")
    for text in ("gs://b/d", "gs://b/d/", "gs://b/d/**"):
        listing = list_shards([text], match=match)
        assert _named(listing.shards, "gs://b") == [
            ("d/a.tar", "tar"),
            ("d/e/b.tar", "tar"),
        ]
    assert list_shards(["gs://b/d/"], form="tar", match=match).shards == listing.shards
    both = list_shards(["gs://b"], match=match).shards
    assert [shard.uri for shard in both][-1] == "gs://b/dx.tar"


def test_a_folder_may_be_left_out_but_is_not_missed() -> None:
    match = _bucket(
        *("gs://b/d/a.tar", "gs://b/d/out/e/b.parquet", "gs://b/d/out/run.json"),
        *("gs://b/d/out2/c.parquet", "gs://b/d/out.tar"),
    )
    listing = list_shards(["gs://b/d"], but_below="gs://b/d/out", match=match)
    assert _named(listing.shards, "gs://b/d") == [
        ("a.tar", "tar"),
        ("out.tar", "tar"),
        ("out2/c.parquet", "parquet"),
    ]
    assert listing.ignored == {".json": 1}
    alone = list_shards(["gs://b/d/out"], but_below="gs://b/d/out", match=match)
    assert alone.shards == ()


def test_an_object_that_exists_is_no_glob() -> None:
    match = _bucket(
        "gs://b/[1].jpg", "gs://b/1.jpg", "gs://b/[d]/2.jpg", "gs://b/xd]/3.jpg"
    )
    assert _members(list_shards(["gs://b/[1].jpg"], match=match).shards) == [
        ["gs://b/[1].jpg"]
    ]
    assert _members(list_shards(["gs://b/[d]"], match=match).shards) == [
        ["gs://b/[d]/2.jpg"]
    ]
    assert _members(list_shards(["gs://b/[1]*.jpg"], match=match).shards) == [
        ["gs://b/1.jpg"]
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_beam_error(PermissionError("403\n<html>")), "PermissionError: 403"),
        (_beam_error(_beam_error(TimeoutError())), "TimeoutError"),
        (
            ValueError("no file system for xy://b"),
            "ValueError: no file system for xy://b",
        ),
    ],
)
def test_a_store_that_cannot_be_listed_is_an_input_error(
    error: Exception, reason: str
) -> None:
    def match(pattern: str) -> list[FileMetadata]:
        raise error

    with pytest.raises(InputError) as refused:
        list_shards(["gs://b/*.tar"], match=match)
    assert str(refused.value) == f"cannot list gs://b/*.tar: {reason}"


def test_shards_come_in_the_order_of_their_names() -> None:
    match = _bucket(
        "gs://b/c.tar", "gs://b/a.parquet", "gs://b/d/i.jpg", "gs://b/b.tar"
    )
    listing = list_shards(["gs://b/d", "gs://b/*"], match=match)
    names = [shard.uri.partition("#")[0] for shard in listing.shards]
    assert names == ["gs://b/a.parquet", "gs://b/b.tar", "gs://b/c.tar", "gs://b/d"]


def test_groups_hold_all_files_in_order_and_have_names_of_their_own() -> None:
    files = _files(*range(10_000))
    groups = list(group_files(files, group_size=64))
    assert [file for group in groups for file in group.files] == files
    assert 10_000 / 90 < len(groups) < 10_000 / 45
    assert len({group.uri for group in groups}) == len(groups)
    assert all(group.uri.startswith("gs://b/f#") for group in groups)


def test_a_group_is_named_after_the_folder_of_all_its_files() -> None:
    uris = ["gs://b/data/x/1.jpg", "gs://b/data/xy/2.jpg"]
    (group,) = group_files([File(uri, 1, 1.0) for uri in uris])
    assert group.uri.partition("#")[0] == "gs://b/data"
    (group,) = group_files([File("/1.jpg", 1, 1.0), File("gs://b/2.jpg", 1, 1.0)])
    assert group.uri.startswith("#")


@pytest.mark.parametrize("size", [256, 4096])
def test_a_file_more_or_less_changes_its_own_group_only(size: int) -> None:
    dice = random.Random(size)
    numbers = range(0, 40_000, 2)
    before = list(group_files(_files(*numbers), group_size=size))
    kept = {group.uri for group in before}
    changed = []
    for _ in range(8):
        more = group_files(
            _files(*numbers, dice.randrange(1, 40_000, 2)), group_size=size
        )
        changed.append(len(kept - {group.uri for group in more}))
        gone = dice.choice(numbers)
        less = group_files(_files(*set(numbers) - {gone}), group_size=size)
        changed.append(len(kept - {group.uri for group in less}))
    assert changed == [1] * 16


def test_groups_that_are_taken_away_leave_the_others_as_they_are() -> None:
    before = list(group_files(_files(*range(2_000)), group_size=16))
    left = [file for group in before[::3] for file in group.files]
    assert list(group_files(left, group_size=16)) == before[::3]


def test_a_file_that_changed_leaves_the_groups_as_they_are() -> None:
    old = _files(*range(500))
    new = [File(old[0].uri, 77, 99.0), *old[1:]]
    first, second = (list(group_files(files, group_size=64)) for files in (old, new))
    assert [group.uri for group in first] == [group.uri for group in second]
    assert first[0].version != second[0].version
