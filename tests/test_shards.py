"""A table of shards is the shards, under the names that they have always had."""

import random
from collections.abc import Iterable

import pytest
from apache_beam.io.filesystem import FileMetadata

from transforms import File, Shard, Shards, group_files
from transforms.files import Files
from transforms.listing import list_shards


def _objects() -> list[FileMetadata]:
    def found(number: int, suffix: str) -> FileMetadata:
        uri = f"gs://b/data/{number // 100:02d}/{number:05d}.{suffix}"
        return FileMetadata(uri, 1000 + number, 1.7e9 + number / 7)

    return [
        *(found(number, "jpg") for number in range(2000)),
        *(found(number, "tar") for number in (3, 50, 1999)),
        FileMetadata("gs://b/data/ü/é x.tar", 5, 0.0),
        FileMetadata("gs://b/data/日本.tfrecord-00000-of-00002", 5, 1.5),
    ]


# What the version before these tables gave them: an output that was begun then is
# gone on with only if they stay.
NAMES = [
    ("gs://b/data#1708bcbabcf9b5a9", "data-g36d5c47a3948f3d9-809f35e5fd", 399),
    ("gs://b/data#6f217fa925cd97be", "data-g453b6c85d24a00b3-2582bdda07", 1026),
    ("gs://b/data#e80bbc860abd0e73", "data-g7df649542871f403-f74c2827a8", 575),
    ("gs://b/data/00/00003.tar", "00003_tar-s1606fc975f274df2-702a258770", 1),
    ("gs://b/data/00/00050.tar", "00050_tar-s0bbd4cc7bf977245-1010730680", 1),
    ("gs://b/data/19/01999.tar", "01999_tar-s0fb985221a1ca81a-66bc388111", 1),
    ("gs://b/data/ü/é x.tar", "x_tar-se1cd1439b27d75fe-0d9069e46a", 1),
    (
        "gs://b/data/日本.tfrecord-00000-of-00002",
        "tfrecord_00000_of_00002-s02e16e458e86c251-278e0b10c3",
        1,
    ),
]


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_names_are_what_they_have_always_been(seed: int | None) -> None:
    objects = _objects()
    if seed is not None:
        random.Random(seed).shuffle(objects)
        objects += objects[:50]
    listing = list_shards(["gs://b/data"], group_size=512, match=lambda _: objects)
    found = [(shard.uri, shard.name, len(shard.files)) for shard in listing.shards]
    assert found == NAMES


def test_names_of_what_is_not_utf8_are_what_they_have_always_been() -> None:
    uris = ["/d/a.jpg", "/d/caf\udce9.jpg", "/d/\udcffx.jpg", "/d/\uffee.jpg"]
    sizes = [(4, 4.0), (1, 1.25), (2, 2.5), (3, 3.125), (5, 5.0)]
    files = [
        File(uri, *size)
        for uri, size in zip([*uris, "/d/\U0001f600.jpg"], sizes, strict=True)
    ]
    (group,) = group_files(files)
    assert group.uri == "/d#2901a43127f2dc89"
    assert group.name == "d-g066eac96f7d8487b-cdf7bfab2b"
    tar = Shard("/d/gr\\xfcn.tar", "tar", (File("/d/gr\udcfcn.tar", 7, 9.5),))
    assert tar.name == "gr_xfcn_tar-s941946b9e0c1962e-97c9fb89f9"


def _mixed() -> list[Shard]:
    def tar(number: int) -> Shard:
        uri = f"/t/{number}.tar"
        return Shard(uri, "tar", (File(uri, number, 0.5),))

    groups = [
        Shard(f"/g#{n}", "files", tuple(File(f"/g/{n}{m}", m, 1.0) for m in range(n)))
        for n in range(4)
    ]
    parquet = Shard("another name", "parquet", (File("/p", 1, 1.0),))
    return [tar(3), groups[2], parquet, groups[0], tar(1), groups[3], groups[1], tar(2)]


def _of(shards: Iterable[Shard], *forms: str) -> list[Shard]:
    return [shard for shard in shards if shard.format in forms]


def test_a_table_is_the_shards_in_their_order() -> None:
    shards = _mixed()
    table = Shards.of(shards)
    assert table == shards and list(table) == shards
    assert [table[row] for row in range(-8, 8)] == [*shards, *shards]
    assert table.of_format("files") == _of(shards, "files")
    assert table.but_of("files") == _of(shards, "tar", "parquet")
    assert table.but_of("files").of_format("tar") == _of(shards, "tar")
    assert table.of_format("tfrecord") == ()
    assert [file.uri for file in table.files_of("files")] == [
        *("/g/10", "/g/20", "/g/21", "/g/30", "/g/31", "/g/32")
    ]
    assert Shards.of([]) == ()


def test_several_tables_are_one_by_their_names() -> None:
    shards = _mixed()
    first, second = Shards.of(shards[:3]), Shards.of(shards[3:])
    both = Shards.in_order([first, second])
    assert list(both) == sorted(shards, key=lambda shard: shard.uri)
    assert Shards.in_order([]) == ()


def test_a_name_that_is_no_text_has_its_place_by_what_the_table_says() -> None:
    files = Files([File("/d/a\udcff.tar", 1, 1.0), File("/d/b.tar", 1, 1.0)])
    other = Files([File("/d/a\\.parquet", 1, 1.0), File("/d/a\\xfe", 1, 1.0)])
    tables = [Shards.of_files("tar", files), Shards.of_files("parquet", other)]
    assert [shard.uri for shard in Shards.in_order(tables)] == [
        *("/d/a\\.parquet", "/d/a\\xfe", "/d/a\\xff.tar", "/d/b.tar")
    ]
