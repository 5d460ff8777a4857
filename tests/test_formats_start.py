"""Reading may begin in the middle of a shard, and gives the rest as it is."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests import shards
from transforms.formats import Columns, Record
from transforms.shard import Shard

_LONG = "a-name-that-does-not-fit-into-a-header/" * 4


def _rest(shard: Shard, row: int, *, offset: int, columns: Columns) -> list[Record]:
    begun = replace(shard, start_row=row, start_offset=offset)
    records, damage = shards.drain(begun, columns=columns)
    assert damage is None
    return records


def _check(shard: Shard, columns: Columns, *, starts: int) -> None:
    """From each row that has an offset, the rows from there on come."""
    whole, damage = shards.drain(shard, columns=columns)
    assert damage is None
    known = [(row, each.offset) for row, each in enumerate(whole)]
    found = [(row, offset) for row, offset in known if offset is not None]
    assert len(found) == starts
    for row, offset in found:
        assert _rest(shard, row, offset=offset, columns=columns) == whole[row:]


def test_a_tar_is_read_on_from_any_sample(tmp_path: Path) -> None:
    samples = [
        ("a", {"jpg": b"A" * 700, "txt": b"one"}),
        (_LONG + "b", {"jpg": b"B", "txt": b"two"}),
        # Its second image cannot be begun with: what comes first belongs to it.
        ("c", {"txt": b"three", "left.jpg": b"CC", "right.jpg": b"CCC"}),
        ("d", {"txt": b"no image"}),
        ("e", {"png": b"E" * 512}),
    ]
    path = shards.write_tar(tmp_path / "a.tar", samples)
    columns = Columns(keep=pa.schema([("txt", pa.string())]))
    _check(shards.shard_of(path, "tar"), columns, starts=5)


def test_a_tar_with_names_in_extended_headers_is_read_on(tmp_path: Path) -> None:
    import tarfile

    samples = [(f"{_LONG}{number}", {"jpg": b"x" * number}) for number in range(4)]
    path = shards.write_tar(tmp_path / "a.tar", samples, form=tarfile.PAX_FORMAT)
    _check(shards.shard_of(path, "tar"), Columns(), starts=4)


def test_a_tfrecord_is_read_on_from_any_record(tmp_path: Path) -> None:
    examples = [
        {"image/encoded": b"a" * 300},
        {"image/encoded": [b"b", b"bb"]},
        {"label": 3},
        {"image/encoded": b"c"},
    ]
    path = shards.write_tfrecord(tmp_path / "a.tfrecord", examples)
    _check(shards.shard_of(path, "tfrecord"), Columns(), starts=4)


@pytest.mark.parametrize("form", ["tar", "tfrecord"])
def test_a_packed_shard_has_no_other_start(tmp_path: Path, form: str) -> None:
    if form == "tar":
        samples = [("a", {"jpg": b"A"}), ("b", {"jpg": b"B"})]
        path = shards.write_tar(tmp_path / "a.tar.gz", samples, gz=True)
    else:
        examples = [{"image/encoded": b"A"}, {"image/encoded": b"B"}]
        path = shards.write_tfrecord(tmp_path / "a.tfrecord.gz", examples, gz=True)
    records, _ = shards.drain(shards.shard_of(path, form))
    assert [record.offset for record in records] == [None, None]


@pytest.mark.parametrize("row", range(11))
def test_a_parquet_file_is_read_on_from_any_row(tmp_path: Path, row: int) -> None:
    rows = [{"image": b"%d" % number} for number in range(11)]
    path = shards.write_parquet(tmp_path / "a.parquet", rows, rows_per_group=4)
    records = _rest(shards.shard_of(path, "parquet"), row, offset=0, columns=Columns())
    assert [record.image for record in records] == [
        b"%d" % number for number in range(row, 11)
    ]


def test_files_are_read_on_from_any(tmp_path: Path) -> None:
    shards.write_files(
        tmp_path, {f"{number}.jpg": b"%d" % number for number in range(5)}
    )
    paths = sorted(tmp_path.iterdir())
    group = Shard(
        "#1", "files", tuple(shards.shard_of(p, "files").files[0] for p in paths)
    )
    records = _rest(group, 3, offset=0, columns=Columns())
    assert [record.image for record in records] == [b"3", b"4"]
