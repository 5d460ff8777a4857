"""Blocks and shards survive their coders, and are cheap to encode."""

import pickle
from dataclasses import replace

import pyarrow as pa
import pytest

from transforms.block import Block, BlockCoder, Place
from transforms.shard import File, Shard, ShardCoder

PLACE = Place("gs://b/a.tar", "a_tar-1-2", 0, 32, True, False)


def test_a_block_survives_its_coder() -> None:
    rows = pa.RecordBatch.from_pydict({"key": ["a", None], "row": [1, 2]})
    block = Block(PLACE, rows)
    assert BlockCoder().decode(BlockCoder().encode(block)) == block


def test_a_block_without_rows_survives_its_coder() -> None:
    rows = pa.RecordBatch.from_pydict({"key": pa.array([], pa.string())})
    decoded = BlockCoder().decode(BlockCoder().encode(Block(PLACE, rows)))
    assert decoded.rows.schema == rows.schema
    assert decoded.rows.num_rows == 0


def test_a_slice_is_encoded_without_its_parent() -> None:
    parent = pa.RecordBatch.from_pydict({"pixels": [bytes(100_000)] * 10})
    block = Block(PLACE, parent.slice(3, 1))
    assert len(BlockCoder().encode(block)) < 102_000


def test_a_block_tells_its_size_without_being_encoded() -> None:
    block = Block(PLACE, pa.RecordBatch.from_pydict({"row": [1, 2, 3]}))
    assert BlockCoder().estimate_size(block) == 24


def test_a_shard_survives_its_coder() -> None:
    files = (File("/a/1.jpg", 5, 1.25), File("/a/2.jpg", 6, 2.5))
    shard = Shard("/a#1", "files", files, frozenset({0, 4096}))
    assert ShardCoder().decode(ShardCoder().encode(shard)) == shard


@pytest.mark.parametrize(
    "other",
    [
        Shard("/a/x.tar", "tar", (File("/a/x.tar", 11, 5.0),)),
        Shard("/a/x.tar", "tar", (File("/a/x.tar", 10, 6.0),)),
        Shard("/b/x.tar", "tar", (File("/b/x.tar", 10, 5.0),)),
    ],
    ids=["size", "time", "folder"],
)
def test_a_shard_is_named_anew_when_it_differs(other: Shard) -> None:
    shard = Shard("/a/x.tar", "tar", (File("/a/x.tar", 10, 5.0),))
    assert shard.name != other.name
    assert shard.name.startswith("x_tar-") and other.name.startswith("x_tar-")


def test_a_changed_shard_keeps_the_digest_of_its_uri() -> None:
    old = Shard("/a/x.tar", "tar", (File("/a/x.tar", 10, 5.0),))
    new = Shard("/a/x.tar", "tar", (File("/a/x.tar", 11, 6.0),))
    assert old.name.rsplit("-", 1)[0] == new.name.rsplit("-", 1)[0]


def test_a_shard_is_named_alike_in_every_process() -> None:
    shard = Shard("/a/x.tar", "tar", (File("/a/x.tar", 10, 5.0),))
    assert pickle.loads(pickle.dumps(shard)).name == shard.name
    assert shard.name == "x_tar-s1611e92ec2f48c79-9d4373aebd"


def test_a_file_whose_name_is_no_utf8_can_be_named() -> None:
    files = (File("/a/\udcff.jpg", 10, 5.0),)
    shard = Shard("/a#1", "files", files)
    assert (
        shard.version != replace(shard, files=(File("/a/\udcfe.jpg", 10, 5.0),)).version
    )
    assert ShardCoder().decode(ShardCoder().encode(shard)) == shard
