"""Parquet files become rows, a few at a time, up to the first that cannot be read."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.shards import drain, shard_of, write_parquet
from transforms.formats import (
    ColumnError,
    Columns,
    Record,
    kept_types,
    read_records,
)

ROWS = [
    {"bytes": bytes([65 + n]) * (100 + n), "path": f"{n}.jpg", "label": n}
    for n in range(25)
]
RECORDS = [Record(f"{n}.jpg", bytes([65 + n]) * (100 + n)) for n in range(25)]


def _keep(**kinds: pa.DataType) -> Columns:
    return Columns(keep=pa.schema(kinds))


def _table(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("hf", [False, True])
@pytest.mark.parametrize("rows_per_group", [1, 10, 1000])
def test_rows_are_records(tmp_path: Path, hf: bool, rows_per_group: int) -> None:
    path = write_parquet(
        tmp_path / "a", ROWS, hf=hf, rows_per_group=rows_per_group, compression="zstd"
    )
    records, damage = drain(shard_of(path, "parquet"), columns=_keep(label=pa.int64()))
    assert damage is None
    assert records == [
        Record(record.key, record.image, {"label": n})
        for n, record in enumerate(RECORDS)
    ]


def test_only_needed_columns_are_read(tmp_path: Path) -> None:
    rows = [
        {"image": b"i" * 10, "blob": np.random.default_rng(n).bytes(9999)}
        for n in range(99)
    ]
    path = write_parquet(tmp_path / "a", rows)
    data, reads = path.read_bytes(), []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reads.append(super().read(size))
            return reads[-1]

    shard = shard_of(path, "parquet")
    records = list(read_records(shard, Columns(), open_input=lambda _: Counting(data)))
    assert len(records) == 99
    assert len(data) > 980_000
    assert sum(map(len, reads)) < 70_000  # 64 KiB of them for the footer


@pytest.fixture(scope="module")
def paged(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[bytes, list[tuple[int, int]]]:
    """A file of two row groups of 40 rows, 4 rows a page, and its images' pages."""
    rows = [{"image": bytes([n]) * 300} for n in range(80)]
    path = write_parquet(
        tmp_path_factory.mktemp("parquet") / "a",
        rows,
        rows_per_group=40,
        compression="none",
        use_dictionary=False,
        data_page_size=1,
        write_batch_size=4,
        write_page_checksum=True,
        # They would repeat the values in the head of each page.
        write_statistics=False,
    )
    data = path.read_bytes()
    return data, [(n, data.index(bytes([n]) * 300)) for n in range(80)]


@pytest.mark.parametrize("row", [0, 3, 4, 39, 40, 57, 79])
def test_rows_before_a_corrupt_page_come_out(
    paged: tuple[bytes, list[tuple[int, int]]], row: int
) -> None:
    data, places = paged
    flipped = bytearray(data)
    flipped[places[row][1] + 150] ^= 1
    records, damage = drain(bytes(flipped), "parquet")
    good = row - row % 4
    assert [record.image for record in records] == [
        bytes([n]) * 300 for n in range(good)
    ]
    assert damage is not None and damage.error == "corrupt_shard"
    assert str(damage).startswith(f"{good} rows read, then: ")


def test_every_cut_is_damage_before_the_first_row(
    paged: tuple[bytes, list[tuple[int, int]]],
) -> None:
    data, _ = paged
    for cut in (0, 1, 4, 8, 100, len(data) // 2, len(data) - 8, len(data) - 1):
        records, damage = drain(data[:cut], "parquet")
        assert records == [], cut
        assert damage is not None and str(damage).startswith("0 rows read, then: ")


def test_a_shard_of_no_rows_is_empty(tmp_path: Path) -> None:
    schema = pa.schema({"image": pa.binary()})
    path = write_parquet(tmp_path / "a", [], schema=schema)
    assert drain(shard_of(path, "parquet")) == ([], None)


def test_random_damage_never_costs_rows_before_it_nor_the_process(
    paged: tuple[bytes, list[tuple[int, int]]],
) -> None:
    data, places = paged
    random = np.random.default_rng(7)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(400):
        flipped = bytearray(data)
        at = int(random.integers(4, footer))
        flipped[at] ^= int(random.integers(1, 256))
        records, _ = drain(bytes(flipped), "parquet")
        whole = 4 * sum(place + 300 <= at for row, place in places if row % 4 == 3)
        assert whole <= len(records) <= 80
        assert [record.image for record in records[:whole]] == [
            bytes([n]) * 300 for n in range(whole)
        ]


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x55])
def test_a_damaged_footer_loses_no_row_unseen(
    paged: tuple[bytes, list[tuple[int, int]]], flip: int
) -> None:
    data, _ = paged
    refused, short = 0, 0
    for at in range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data)):
        flipped = bytearray(data)
        flipped[at] ^= flip
        try:
            records, damage = drain(bytes(flipped), "parquet")
        except ColumnError:
            refused += 1
            continue
        assert damage is not None or len(records) == 80, at
        short += damage is not None and len(records) > 0
        refused += damage is not None and len(records) == 0
    assert refused > 100 and short > 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_null_image_is_a_row_with_a_fault(kind: pa.DataType) -> None:
    data = _table(image=pa.array([b"a", None, b""], kind), id=pa.array([1, 2, 3]))
    records, _ = drain(data, "parquet")
    assert [(record.key, record.image) for record in records] == [
        ("1", b"a"),
        ("2", None),
        ("3", b""),
    ]
    assert [record.fault and record.fault.error for record in records] == [
        None,
        "no_image",
        None,
    ]


def test_nulls_of_the_struct_are_faults_and_keep_the_path() -> None:
    structs = [{"bytes": b"a", "path": None}, {"bytes": None, "path": "b.jpg"}, None]
    data = _table(image=pa.array(structs), id=pa.array(["x", "y", "z"]))
    records, _ = drain(data, "parquet")
    assert [(record.key, record.image) for record in records] == [
        ("x", b"a"),
        ("b.jpg", None),
        ("z", None),
    ]
    assert [record.fault and record.fault.error for record in records] == [
        None,
        "no_image",
        "no_image",
    ]


def test_the_image_column_is_found_by_its_name_or_being_the_only_one() -> None:
    a, b = pa.array([b"a"]), pa.array([b"b"])
    assert drain(_table(thumb=a, JPG=b), "parquet")[0] == [Record(None, b"b")]
    assert drain(_table(image=pa.array([3]), odd=b), "parquet")[0] == [
        Record(None, b"b")
    ]
    named = Columns(image="thumb", key="JPG")
    assert drain(_table(thumb=a, JPG=b), "parquet", columns=named)[0] == [
        Record("b", b"a")
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(), "cannot tell the image column of memory: one of one, two; name it"),
        (Columns(image="three"), "no column 'three' in memory: there are one, two, n"),
        (Columns(image="n"), "column 'n' of memory is int64, which is no image"),
        (
            Columns(image="one", key="k"),
            "no column 'k' in memory: there are one, two, n",
        ),
    ],
)
def test_a_wrong_column_is_refused_with_those_there_are(
    columns: Columns, message: str
) -> None:
    data = _table(one=pa.array([b"1"]), two=pa.array([b"2"]), n=pa.array([1]))
    with pytest.raises(ColumnError) as refused:
        drain(data, "parquet", columns=columns)
    assert str(refused.value) == message


def test_text_that_is_not_utf8_becomes_escapes() -> None:
    odd = pa.array([b"\xe9t\xe9.jpg"]).view(pa.string())
    data = _table(image=pa.array([b"i"]), path=odd, text=odd, texts=pa.array([["x"]]))
    keep = _keep(text=pa.string(), texts=pa.list_(pa.string()))
    assert drain(data, "parquet", columns=keep)[0] == [
        Record("\\xe9t\\xe9.jpg", b"i", {"text": "\\xe9t\\xe9.jpg", "texts": ["x"]})
    ]


def test_kept_columns_come_out_as_arrow_had_them(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": pa.array([b"a", b"b"]),
            "word": pa.array(["x", None]).dictionary_encode(),
            "when": pa.array(
                [1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC")
            ),
            "clock": pa.array([123_456_789, None], pa.time64("ns")),
            "box": pa.array([[1.5, 2.5], [0.0, 1.0]], pa.list_(pa.float32(), 2)),
            "meta": pa.array([{"w": 1, "tags": ["t"]}, None]),
            "price": pa.array([None, None], pa.decimal128(10, 2)),
        }
    )
    pq.write_table(table, tmp_path / "a")
    shard = shard_of(tmp_path / "a", "parquet")
    names = table.schema.names[1:]
    keep = kept_types(shard, Columns(), names)
    assert keep.field("word").type == pa.string()
    assert keep.remove(0) == table.schema.remove(0).remove(0)
    records, damage = drain(shard, columns=Columns(keep=keep))
    assert damage is None
    for field in keep:
        kept = pa.array([record.kept[field.name] for record in records], field.type)
        plain = table[field.name].combine_chunks()
        assert kept.equals(plain.dictionary_decode() if field.name == "word" else plain)


def test_kept_columns_are_cast_where_nothing_is_lost(tmp_path: Path) -> None:
    rows = [{"image": b"i", "n": "12", "big": 5}, {"image": b"j", "n": "x", "big": 500}]
    shard = shard_of(write_parquet(tmp_path / "a", rows), "parquet")
    keep = kept_types(shard, Columns(), ["n:int32", "big:int8"])
    assert keep == pa.schema({"n": pa.int32(), "big": pa.int8()})
    good, bad = drain(shard, columns=Columns(keep=keep))[0]
    assert good == Record(None, b"i", {"n": 12, "big": 5})
    assert bad.fault is not None and bad.fault.error == "column_mismatch"
    assert bad.image == b"j"


def test_a_kept_column_that_one_file_lacks_is_null() -> None:
    data = _table(image=pa.array([b"i"]))
    records, _ = drain(data, "parquet", columns=_keep(label=pa.int64()))
    assert records == [Record(None, b"i")]


def test_an_unknown_column_to_keep_is_refused(tmp_path: Path) -> None:
    shard = shard_of(write_parquet(tmp_path / "a", ROWS), "parquet")
    with pytest.raises(ColumnError) as refused:
        kept_types(shard, Columns(), ["lable"])
    there = f"no column 'lable' in {tmp_path}/a: there are bytes, path, label"
    assert str(refused.value) == there


def _peak(batches: Iterator[object]) -> int:
    base = pa.total_allocated_bytes()
    return max(pa.total_allocated_bytes() - base for _ in batches)


def test_a_large_row_group_is_never_in_memory(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    path = write_parquet(
        tmp_path / "a",
        [{"image": noise.bytes(50_000)} for _ in range(1000)],
        rows_per_group=1000,
        use_dictionary=False,
        write_batch_size=16,
    )
    assert path.stat().st_size > 50_000_000
    reads = []

    class Watched(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            reads.append(size or -1)
            return super().read(size)

    shard = shard_of(path, "parquet")
    records = read_records(shard, Columns(), open_input=lambda uri: Watched(uri))
    assert _peak(records) < 16_000_000
    assert min(reads) > 0 and max(reads) < 6_000_000
