"""Shards are cut into blocks that never cross the border of a part."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from transforms import read
from transforms.block import Block, Fault
from transforms.formats.record import Columns, DamagedShardError, Record
from transforms.read import Cut, _ahead_bytes, cut_blocks
from transforms.shard import File, Shard

SHARD = Shard("/data/a.tar", "tar", (File("/data/a.tar", 100, 1.0),))


def _records(count: int) -> Iterator[Record]:
    for number in range(count):
        yield Record(f"k{number}", b"%d" % number)


def _cut(count: int, *, block: int, part: int, shard: Shard = SHARD) -> list[Block]:
    cut = Cut(block=block, part=part)
    return list(cut_blocks(shard, _records(count), columns=Columns(), cut=cut))


def _places(blocks: list[Block]) -> list[tuple[int, int, int, bool, bool]]:
    return [
        (
            block.place.part,
            block.place.row,
            block.rows.num_rows,
            block.place.ends_part,
            block.place.ends_shard,
        )
        for block in blocks
    ]


def test_blocks_end_where_parts_do() -> None:
    assert _places(_cut(8, block=3, part=5)) == [
        (0, 0, 3, False, False),
        (0, 3, 2, True, False),
        (5, 5, 3, True, True),
    ]


def test_blocks_of_large_images_are_shorter() -> None:
    large = b"x" * (20 << 20)
    records = [Record(str(row), large) for row in range(5)]
    blocks = cut_blocks(SHARD, records, columns=Columns(), cut=Cut(block=4, part=8))
    # Two of 20 MiB reach the 32 MiB at which a block ends.
    assert [block.rows.num_rows for block in blocks] == [2, 2, 1]


def test_a_shard_that_fills_its_last_part_ends_there() -> None:
    assert _places(_cut(4, block=2, part=4)) == [
        (0, 0, 2, False, False),
        (0, 2, 2, True, True),
    ]


def test_an_empty_shard_is_one_empty_block_that_ends_it() -> None:
    blocks = _cut(0, block=2, part=4)
    assert _places(blocks) == [(0, 0, 0, True, True)]
    assert blocks[0].rows.schema.names == ["key", "image", "stage", "error", "message"]


def test_parts_that_are_done_are_passed_over() -> None:
    shard = Shard(SHARD.uri, SHARD.format, SHARD.files, frozenset({0, 8}))
    assert _places(_cut(10, block=4, part=4, shard=shard)) == [(4, 4, 4, True, False)]


def test_images_and_kept_columns_arrive_unchanged() -> None:
    columns = Columns(keep=pa.schema([("label", pa.int64())]))
    records = [Record("a", b"\x00\xff", {"label": 3}), Record(None, b"", {})]
    [block] = cut_blocks(SHARD, records, columns=columns, cut=Cut(block=8, part=8))
    assert block.rows.to_pydict() == {
        "key": ["a", None],
        "image": [b"\x00\xff", b""],
        "stage": [None, None],
        "error": [None, None],
        "message": [None, None],
        "kept:label": [3, None],
    }


def test_no_image_and_an_empty_one_are_two_things() -> None:
    fault = Fault("read", "no_image", "none")
    images = [b"", None, b"x" * 1000, None, b"y"]
    records = [Record("k", image, fault=fault) for image in images]
    [block] = cut_blocks(SHARD, records, columns=Columns(), cut=Cut(block=9, part=9))
    block.rows.validate(full=True)
    assert block.rows["image"].to_pylist() == images


def test_damage_is_a_row_after_the_last_good_one() -> None:
    def damaged() -> Iterator[Record]:
        yield from _records(2)
        raise DamagedShardError("truncated_shard", "ends at byte 7")

    [block] = cut_blocks(SHARD, damaged(), columns=Columns(), cut=Cut(block=8, part=8))
    assert block.rows["error"].to_pylist() == [None, None, "truncated_shard"]
    assert block.rows["message"].to_pylist() == [None, None, "ends at byte 7"]
    assert block.rows["stage"].to_pylist() == [None, None, "read"]
    assert block.place.ends_shard


def test_storage_that_fails_is_no_damage() -> None:
    def failing() -> Iterator[Record]:
        yield from _records(1)
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        list(cut_blocks(SHARD, failing(), columns=Columns(), cut=Cut(block=8, part=8)))


def test_a_faulty_record_is_a_row() -> None:
    fault = Fault("read", "no_image", "no member with an image")
    records = [Record("a", None, fault=fault)]
    [block] = cut_blocks(SHARD, records, columns=Columns(), cut=Cut(block=8, part=8))
    assert block.rows["image"].to_pylist() == [None]
    assert block.rows["error"].to_pylist() == ["no_image"]


def test_reading_goes_on_from_the_start_row() -> None:
    shard = replace(SHARD, start_row=4, done_parts=frozenset({0, 8}))
    assert _places(_cut(8, block=4, part=4, shard=shard)) == [(4, 4, 4, True, False)]


def test_the_end_of_a_part_knows_where_the_next_begins() -> None:
    records = [Record("k", b"x", offset=100 * number) for number in range(6)]
    cut = Cut(block=2, part=4)
    blocks = cut_blocks(SHARD, records, columns=Columns(), cut=cut)
    assert [block.place.resume_at for block in blocks] == [None, 400, None]


def test_reading_ahead_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def records(shard: Shard, columns: Columns) -> Iterator[Record]:
        for record in _records(100):
            made.append(1)
            yield record

    monkeypatch.setattr(read, "read_records", records)
    monkeypatch.setattr(read, "_LOCAL_AHEAD_BYTES", 1)
    reader = read._ReadImages(Columns(), Cut(block=1, part=100))
    reader.start_bundle()
    blocks = reader.process(SHARD)
    next(blocks)
    time.sleep(0.2)
    # One block is taken, one waits, one is made, and its end is the next record.
    assert len(made) <= 4
    assert len(list(blocks)) == 99
    reader.teardown()


def test_a_store_is_read_further_ahead_than_a_disk() -> None:
    assert _ahead_bytes(replace(SHARD, uri="/data/a.tar")) == 8 << 20
    assert _ahead_bytes(replace(SHARD, uri="gs://bucket/a.tar")) == 64 << 20
