"""Parts are whole or absent, named alike by everybody, and hold each row once."""

import hashlib
import json
import time
import weakref
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.outputs import files
from tests.pipelines import counters, run_on
from transforms import parquet, storage, write
from transforms.ahead import InOrder
from transforms.block import Block, Place
from transforms.part import IncompletePartError, PartTotals, read_totals
from transforms.part_writer import PartWriter
from transforms.write import ReadTotals, Sink, WriteParts

_SIZE, _WIDTH = 4, 8


def _block(row: int, count: int, *, part: int, ends: str = "") -> Block:
    """Predicted rows; every fifth row of the shard is bad."""
    numbers = range(row, row + count)
    bad = [number % 5 == 4 for number in numbers]
    embedding = np.repeat(np.arange(row, row + count), _WIDTH).astype(np.float32)
    rows = {
        "key": pa.array(
            [f"k{number}" if number else None for number in numbers], pa.string()
        ),
        "sha256": pa.array([bytes([number]) * 32 for number in numbers], pa.binary(32)),
        "bytes": pa.array([100 + number for number in numbers], pa.int64()),
        "width": pa.array([640] * count, pa.int32()),
        "height": pa.array([480] * count, pa.int32()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embedding), _WIDTH),
        "stage": pa.array(["decode" if x else None for x in bad], pa.string()),
        "error": pa.array(["corrupt_image" if x else None for x in bad], pa.string()),
        "message": pa.array(["bad data" if x else None for x in bad], pa.string()),
        "kept:label": pa.array([number * 10 for number in numbers], pa.int64()),
    }
    place = Place("/in/a.tar", "a-1-2", part, row, bool(ends), ends == "shard")
    return Block(place, pa.RecordBatch.from_pydict(rows))


def _shard() -> list[Block]:
    """Twenty-two rows in parts of eight."""
    return [
        _block(0, 4, part=0),
        _block(4, 4, part=0, ends="part"),
        _block(8, 4, part=8),
        _block(12, 4, part=8, ends="part"),
        _block(16, 4, part=16),
        _block(20, 2, part=16, ends="shard"),
    ]


def _write(folder: Path, blocks: list[Block]) -> list[PartTotals]:
    totals, _ = run_on(WriteParts(Sink(str(folder), "id")), blocks)
    return sorted(totals, key=lambda part: part.first_row)


class _Shuffled(beam.PTransform):
    """The blocks in bundles of two, as a runner may deal them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = str(folder)

    def expand(self, blocks: beam.pvalue.PCollection[Block]) -> beam.pvalue.PCollection:
        return blocks | beam.Reshuffle() | WriteParts(Sink(self._folder, "id"))


@pytest.fixture(params=[1, parquet.ROW_GROUP_BYTES], ids=["packed at once", "late"])
def _row_groups(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are packed block by block, or when their last block has come."""
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", request.param)


def test_the_files_of_an_output_are_named_by_shard_and_first_row(
    tmp_path: Path,
) -> None:
    _write(tmp_path, _shard())
    assert list(files(tmp_path)) == [
        "embeddings/a-1-2-0000000000.parquet",
        "embeddings/a-1-2-0000000008.parquet",
        "embeddings/a-1-2-0000000016-last.parquet",
        "errors/a-1-2-0000000000.parquet",
        "errors/a-1-2-0000000008.parquet",
        "errors/a-1-2-0000000016-last.parquet",
    ]


def test_the_two_tables_hold_each_row_once(tmp_path: Path) -> None:
    _write(tmp_path, _shard())
    good = pq.read_table(tmp_path / "embeddings").sort_by("row")
    bad = pq.read_table(tmp_path / "errors").sort_by("row")
    assert bad["row"].to_pylist() == [4, 9, 14, 19]
    assert sorted(good["row"].to_pylist() + bad["row"].to_pylist()) == list(range(22))
    assert good["label"].to_pylist() == [row * 10 for row in good["row"].to_pylist()]
    assert [vector[0] for vector in good["embedding"].to_pylist()] == good[
        "row"
    ].to_pylist()
    assert good["key"][0].as_py() == "0", "a row without a key has its number"
    assert bad.slice(0, 1).to_pylist() == [
        {
            "shard": "/in/a.tar",
            "row": 4,
            "key": "k4",
            "stage": "decode",
            "error": "corrupt_image",
            "message": "bad data",
            "bytes": 104,
        }
    ]


def test_the_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    _write(tmp_path, _shard())
    schema = pq.read_schema(tmp_path / "embeddings/a-1-2-0000000000.parquet")
    assert [(field.name, str(field.type), field.nullable) for field in schema] == [
        ("shard", "string", False),
        ("row", "int64", False),
        ("key", "string", False),
        ("sha256", "fixed_size_binary[32]", False),
        ("width", "int32", False),
        ("height", "int32", False),
        ("embedding", "fixed_size_list<element: float>[8]", False),
        ("label", "int64", True),
    ]


def test_vectors_are_split_into_byte_streams_and_packed(tmp_path: Path) -> None:
    _write(tmp_path, _shard())
    metadata = pq.read_metadata(tmp_path / "embeddings/a-1-2-0000000000.parquet")
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    [vector] = [column for column in columns if column.path_in_schema[:4] == "embe"]
    assert "BYTE_STREAM_SPLIT" in vector.encodings
    assert not any("DICTIONARY" in name for name in vector.encodings)
    assert {column.compression for column in columns} == {"ZSTD"}


def test_each_file_says_what_it_holds(tmp_path: Path) -> None:
    _write(tmp_path, _shard())
    path = tmp_path / "embeddings/a-1-2-0000000016-last.parquet"
    description = json.loads(pq.read_metadata(path).metadata[b"bitbeam"])
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little")
    data = content[: -8 - footer]
    bad = (tmp_path / "errors" / path.name).read_bytes()
    bad_footer = bad[-8 - int.from_bytes(bad[-8:-4], "little") : -8]
    assert description == {
        "data_digest": hashlib.sha256(data).hexdigest(),
        "errors_digest": hashlib.sha256(bad_footer).hexdigest(),
        "identity": "id",
        "resume_at": None,
        "stem": "a-1-2-0000000016-last",
        "shard": "/in/a.tar",
        "first_row": 16,
        "end_row": 22,
        "last": True,
        "good": 5,
        "errors": [["corrupt_image", 1]],
    }


def test_totals_are_read_back_from_the_files(tmp_path: Path) -> None:
    totals = _write(tmp_path, _shard())
    stems = [part.stem for part in totals]
    again, _ = run_on(ReadTotals(Sink(str(tmp_path), "id")), stems)
    assert again == totals
    assert read_totals(str(tmp_path), stems[0]).good == 7


@pytest.mark.usefixtures("_row_groups")
def test_a_shuffle_before_changes_no_file(tmp_path: Path) -> None:
    _write(tmp_path / "fused", _shard())
    blocks = _shard()[::-1]
    totals, result = run_on(_Shuffled(tmp_path / "shuffled"), blocks)
    assert files(tmp_path / "shuffled") == files(tmp_path / "fused")
    assert len(totals) == 3
    assert counters(result)["parts_written"] == 3


@pytest.mark.usefixtures("_row_groups")
@pytest.mark.parametrize("order", [1, -1], ids=["in order", "backwards"])
def test_blocks_delivered_twice_change_no_file(tmp_path: Path, order: int) -> None:
    once = _write(tmp_path / "once", _shard())
    twice = _write(tmp_path / "twice", [*_shard(), *_shard()][::order])
    assert files(tmp_path / "twice") == files(tmp_path / "once")
    assert twice == once


def test_a_part_that_comes_again_is_not_written_again(tmp_path: Path) -> None:
    step = WriteParts(Sink(str(tmp_path), "id"))
    _, result = run_on(step, [*_shard(), *_shard()])
    assert counters(result)["parts_written"] == 3


def test_a_part_that_two_bundles_write_counts_once(tmp_path: Path) -> None:
    # Dealt in turn: each of the two workers has every block.
    pairs = [block for block in _shard() for _ in range(2)]
    totals, result = run_on(_Shuffled(tmp_path), pairs, workers=2)
    assert counters(result)["parts_written"] == 6
    assert sorted(part.first_row for part in totals) == [0, 8, 16]


def test_what_counts_of_a_part_is_what_is_there(tmp_path: Path) -> None:
    # A worker on another kind of machine, whose sums round otherwise, comes second.
    def rounded(block: Block) -> Block:
        values = block.rows["embedding"].flatten().to_numpy() + np.float32(1e-6)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), _WIDTH)
        at = block.rows.schema.get_field_index("embedding")
        return Block(block.place, block.rows.set_column(at, "embedding", column))

    first = _write(tmp_path, _shard())
    before = files(tmp_path)
    assert _write(tmp_path, [rounded(block) for block in _shard()]) == first
    assert files(tmp_path) == before


@pytest.mark.usefixtures("_row_groups")
def test_blocks_of_one_part_in_two_bundles_are_gathered(tmp_path: Path) -> None:
    # Each worker has a bundle of its own: half of each part's blocks.
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    _write(tmp_path / "fused", _shard())
    options = PipelineOptions(
        direct_num_workers=2, direct_running_mode="multi_threading"
    )
    pipeline = beam.Pipeline(runner=fn_runner.FnApiRunner(), options=options)
    blocks = pipeline | beam.Create(_shard(), reshuffle=True)
    _ = blocks | _Shuffled(tmp_path / "dealt")
    result = pipeline.run()
    assert files(tmp_path / "dealt") == files(tmp_path / "fused")
    assert counters(result)["parts_gathered"] >= 1


@pytest.mark.usefixtures("_row_groups")
def test_a_part_that_lacks_a_block_fails_the_job(tmp_path: Path) -> None:
    blocks = _shard()
    del blocks[2]
    with pytest.raises(IncompletePartError, match="a-1-2-0000000008"):
        _write(tmp_path, blocks)


def test_an_empty_shard_is_a_part_without_rows(tmp_path: Path) -> None:
    [totals] = _write(tmp_path, [_block(0, 0, part=0, ends="shard")])
    assert (totals.good, totals.bad, totals.last) == (0, 0, True)
    assert list(files(tmp_path)) == ["embeddings/a-1-2-0000000000-last.parquet"]


def test_errors_of_an_earlier_try_disappear(tmp_path: Path) -> None:
    stale = tmp_path / "errors/a-1-2-0000000000.parquet"
    stale.parent.mkdir()
    stale.write_bytes(b"of a try that read badly")
    _write(tmp_path, [_block(0, 4, part=0, ends="part")])
    assert not stale.exists()


def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_whole(str(tmp_path / "part.parquet"), b"rows")
    assert list(tmp_path.iterdir()) == []


def test_a_write_replaces_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "part.parquet"
    target.write_bytes(b"a longer old part")
    storage.write_whole(str(target), b"new")
    assert files(tmp_path) == {"part.parquet": b"new"}


def test_a_large_batch_is_cut_into_row_groups() -> None:
    rows = 5000
    values = pa.array(np.arange(rows * 1024, dtype=np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(values, 1024)
    table = pa.table({"embedding": vectors, "row": np.arange(rows)})
    content = parquet.encode(table, {}).content
    metadata = pq.read_metadata(pa.BufferReader(content))
    sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert len(sizes) == 2 and sum(sizes) == rows
    assert pq.read_table(pa.BufferReader(content))["row"].to_pylist() == list(
        range(rows)
    )


def test_a_part_in_hand_gives_its_blocks_back() -> None:
    part, blocks = PartWriter(), [*_shard()[:2], _block(8, 3, part=0)]
    packed = [part.take(block) for block in blocks]
    assert packed == [[], blocks[:2], []]
    part.pack(packed[1])
    for block, again in zip(blocks, part.blocks(), strict=True):
        assert again.place == block.place
        assert again.rows.schema.equals(block.rows.schema)
        good = block.rows["error"].is_null()
        assert again.rows.filter(good).equals(block.rows.filter(good))
        others = [name for name in block.rows.schema.names if name != "embedding"]
        assert again.rows.select(others).equals(block.rows.select(others))


def test_a_part_in_hand_holds_no_vector_that_is_packed() -> None:
    part = PartWriter()
    held: list[weakref.ref[np.ndarray]] = []
    counts = []
    for number in range(5):
        if blocks := part.take(_large_block(number, held=held)):
            part.pack(blocks)
        del blocks
        counts.append(sum(ref() is not None for ref in held))
    assert counts == [1, 0, 1, 0, 1]
    vectors = [block.rows["embedding"][3][0].as_py() for block in part.blocks()]
    assert vectors == [0, 1, 2, 3, 4]


def _large_block(
    number: int, *, held: list[weakref.ref[np.ndarray]], ends: str = ""
) -> Block:
    """Half a row group."""
    values = np.full(1 << 20, number, np.float32)
    held.append(weakref.ref(values))
    block = _block(number * 4, 4, part=0, ends=ends)
    at = block.rows.schema.get_field_index("embedding")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), len(values) // 4)
    return Block(block.place, block.rows.set_column(at, "embedding", vectors))


def test_rows_that_could_not_be_packed_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, blocks = PartWriter(), [_large_block(number, held=[]) for number in range(2)]
    last = _large_block(2, held=[], ends="part")
    assert part.take(blocks[0]) == []
    with monkeypatch.context() as patch:
        patch.setattr(parquet.Encoder, "add", _no_memory)
        with pytest.raises(MemoryError):
            part.pack(part.take(blocks[1]))
    part.pack(part.take(last))
    with pytest.raises(IncompletePartError):
        part.write(output=str(tmp_path), identity="id")
    assert files(tmp_path) == {}


def _no_memory(encoder: parquet.Encoder, rows: pa.Table) -> None:
    raise MemoryError


def test_what_waits_to_be_packed_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    add = InOrder.add

    def counted(self: InOrder, pending: object, *, weight: int = 1) -> object:
        yield from add(self, pending, weight=weight)
        waiting.append(len(self._pending))

    def slow(part: PartWriter, blocks: list[Block]) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(write, "_AHEAD_BYTES", 1000)
    monkeypatch.setattr(InOrder, "add", counted)
    monkeypatch.setattr(PartWriter, "pack", slow)
    monkeypatch.setattr(PartWriter, "blocks", lambda part: [])
    blocks = [_block(4 * n, 4, part=0) for n in range(20)]
    assert 200 < blocks[0].nbytes < 1000
    run_on(WriteParts(Sink(str(tmp_path), "id")), blocks)
    assert len(waiting) == 20
    assert 1 < max(waiting) <= 1 + 1000 // blocks[0].nbytes + 1


def test_a_block_that_comes_again_is_not_held() -> None:
    part, block = write._Arriving(0), _block(0, 4, part=0)
    assert list(part.in_turn(block)) == [block]
    assert list(part.in_turn(block)) == []
    assert list(part.early) == []
