"""TFRecords of tf.Example become rows; TensorFlow writes what is read here."""

import gzip
import io
import struct
from pathlib import Path

import pyarrow as pa
import pytest

from tests.shards import drain, shard_of, write_tfrecord
from transforms.formats import ColumnError, Columns, Record, kept_types
from transforms.formats.tfrecord import write_tfrecord as write_own

EXAMPLES: list[dict[str, object]] = [
    {"image/encoded": b"A" * 90, "image/filename": b"a.jpg", "label": 1},
    {"image/encoded": b"B" * 30, "image/filename": b"b.jpg", "label": 2},
    {"image/encoded": b"C" * 60, "image/filename": b"c.jpg", "label": 3},
]
ROWS = [
    Record("a.jpg", b"A" * 90),
    Record("b.jpg", b"B" * 30),
    Record("c.jpg", b"C" * 60),
]


def _ends(data: bytes) -> list[int]:
    ends, at = [], 0
    while at < len(data):
        at += 8 + 4 + struct.unpack_from("<Q", data, at)[0] + 4
        ends.append(at)
    return ends


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tfrecord")


@pytest.fixture(scope="module")
def plain(folder: Path) -> bytes:
    return write_tfrecord(folder / "plain", EXAMPLES).read_bytes()


def _written(folder: Path, *examples: dict[str, object]) -> bytes:
    return write_tfrecord(folder / "one", examples).read_bytes()


@pytest.mark.parametrize("gz", [False, True])
def test_examples_are_rows(folder: Path, gz: bool) -> None:
    path = write_tfrecord(folder / "any-name", EXAMPLES, gz=gz)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == gz
    assert drain(shard_of(path, "tfrecord")) == (ROWS, None)


def test_every_cut_gives_the_records_before_it_and_says_so(plain: bytes) -> None:
    ends = _ends(plain)
    assert len(ends) == 3
    for cut in range(len(plain) + 1):
        records, damage = drain(plain[:cut], "tfrecord")
        assert records == ROWS[: sum(end <= cut for end in ends)], cut
        assert (damage is None) == (cut in (0, *ends)), cut
        if damage:
            assert damage.error == "truncated_shard"
            assert f"ends at byte {cut:,}" in str(damage)


def test_every_flipped_bit_costs_its_record_or_ends_the_shard(plain: bytes) -> None:
    ends = _ends(plain)
    starts = [0, *ends]
    for at in range(len(plain)):
        flipped = bytearray(plain)
        flipped[at] ^= 1 << at % 8
        records, damage = drain(bytes(flipped), "tfrecord")
        hit = sum(end <= at for end in ends)
        assert records[:hit] == ROWS[:hit]
        if at - starts[hit] < 12:
            assert len(records) == hit
            assert damage is not None and damage.error == "corrupt_shard"
            assert f"record at byte {starts[hit]:,} " in str(damage)
        else:
            fault = records[hit].fault
            assert fault is not None and fault.error == "bad_checksum", at
            assert records[hit].image is None
            assert records[hit + 1 :] == ROWS[hit + 1 :]
            assert damage is None


def test_packed_records_before_the_damage_come_out(plain: bytes) -> None:
    packed = gzip.compress(plain, compresslevel=0)
    for cut in range(1, len(packed)):
        records, damage = drain(packed[:cut], "tfrecord")
        whole = sum(15 + end <= cut for end in _ends(plain))
        assert records == ROWS[:whole], cut
        assert damage is not None and damage.error == "truncated_shard"
    # The block's head, in front of it 10 bytes of gzip's, has a copy that disagrees.
    assert drain(packed[:11] + b"\0" + packed[12:], "tfrecord")[0] == []


def test_packed_records_before_a_corrupt_block_come_out(plain: bytes) -> None:
    ends = _ends(plain)
    blocks = io.BytesIO()
    with gzip.GzipFile(fileobj=blocks, mode="w", compresslevel=0) as sink:
        sink.write(plain[: ends[1]])
        sink.flush()
        broken = blocks.tell()
        sink.write(plain[ends[1] :])
    packed = bytearray(blocks.getvalue())
    packed[broken] |= 0b110  # a kind of block that there is not
    records, damage = drain(bytes(packed), "tfrecord")
    assert records == ROWS[:2]
    assert damage is not None and damage.error == "corrupt_shard"
    assert "gzip" in str(damage)


def test_a_record_whose_length_looks_like_gzip_is_none(folder: Path) -> None:
    # A length of 0x088b1f is `1f 8b 08` in the file; 27 of it are not the image's.
    data = _written(folder, {"image": b"x" * (0x088B1F - 27)})
    assert data[:3] == b"\x1f\x8b\x08"
    records, damage = drain(data, "tfrecord")
    assert [len(record.image or b"") for record in records] == [559_876]
    assert damage is None


def test_an_absurd_length_is_not_allocated(plain: bytes) -> None:
    head = struct.pack("<QI", 1 << 61, 0x1B2C4402)
    data = plain + head + b"x" * 1000
    records, damage = drain(data, "tfrecord")
    assert records == ROWS
    assert damage is not None and damage.error == "truncated_shard"


def test_an_empty_shard_has_no_rows() -> None:
    assert drain(b"", "tfrecord") == ([], None)
    assert drain(gzip.compress(b""), "tfrecord") == ([], None)


def test_what_is_no_example_is_a_row_with_a_fault(folder: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(folder / "odd")) as sink:
        sink.write(b"\xff\xff no message")
        sink.write(b"")
    records, damage = drain((folder / "odd").read_bytes(), "tfrecord")
    assert [record.fault and record.fault.error for record in records] == [
        "bad_example",
        "no_image",
    ]
    assert damage is None


@pytest.mark.parametrize(
    "example",
    [
        {"label": 3, "caption": b"no picture"},
        {"image/encoded": [], "label": 3},
        {"image": [1, 2, 3]},
    ],
)
def test_an_example_without_an_image_says_what_it_has(
    folder: Path, example: dict[str, object]
) -> None:
    records, _ = drain(_written(folder, example), "tfrecord")
    fault = records[0].fault
    assert fault is not None and fault.error == "no_image"
    assert fault.message.endswith(f"there are {', '.join(sorted(example))}")


def test_several_images_of_one_example_are_several_rows(folder: Path) -> None:
    data = _written(folder, {"image": [b"1", b"2"], "id": 7})
    assert drain(data, "tfrecord")[0] == [Record("7", b"1"), Record("7", b"2")]


def test_features_can_be_named(folder: Path) -> None:
    data = _written(folder, {"image": b"i", "mask": b"m", "key": b"k", "serial": 12})
    named = Columns(image="mask", key="serial")
    assert drain(data, "tfrecord", columns=named)[0] == [Record("12", b"m")]
    assert drain(data, "tfrecord")[0] == [Record("k", b"i")]


def test_kept_features_have_the_types_of_what_the_shard_holds(folder: Path) -> None:
    path = write_tfrecord(
        folder / "kept",
        [
            {
                "image": b"a",
                "n": 1,
                "f": 0.5,
                "t": b"one",
                "b": b"\xff",
                "box": [1.0, 2.0],
            },
            {"image": b"b", "n": 2, "t": "grün".encode(), "b": b"x", "box": [0.5]},
            {"image": b"c", "ids": [4, 5]},
        ],
    )
    shard = shard_of(path, "tfrecord")
    keep = kept_types(shard, Columns(), ["n", "f", "t", "b", "box", "ids", "no:int64"])
    assert keep == pa.schema(
        {
            "n": pa.int64(),
            "f": pa.float32(),
            "t": pa.string(),
            "b": pa.binary(),
            "box": pa.list_(pa.float32()),
            "ids": pa.list_(pa.int64()),
            "no": pa.int64(),
        }
    )
    records, _ = drain(shard, columns=Columns(keep=keep))
    assert [record.kept for record in records] == [
        {"n": 1, "f": 0.5, "t": "one", "b": b"\xff", "box": [1.0, 2.0]},
        {"n": 2, "t": "grün", "b": b"x", "box": [0.5]},
        {"ids": [4, 5]},
    ]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ([1, 2], pa.int64(), "2 values where one was expected"),
        (b"cat", pa.int64(), "'cat' is no int64"),
        (0.5, pa.int64(), "0.5 is no int64"),
        (300, pa.int8(), "300 is no int8"),
    ],
)
def test_a_kept_value_of_another_type_is_a_fault(
    folder: Path, value: object, kind: pa.DataType, message: str
) -> None:
    data = _written(folder, {"image": b"i", "x": value})
    (record,), _ = drain(
        data, "tfrecord", columns=Columns(keep=pa.schema([("x", kind)]))
    )
    assert record.fault is not None and record.fault.error == "column_mismatch"
    assert record.fault.message == f"'x': {message}"
    assert record.image == b"i"


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        (b"12", pa.int64(), 12),
        (3, pa.float32(), 3.0),
        (3, pa.string(), "3"),
        (2.0, pa.int32(), 2),
        ([1, 2], pa.list_(pa.float64()), [1.0, 2.0]),
        ([], pa.int64(), None),
        (b"\xe9t\xe9", pa.string(), "\\xe9t\\xe9"),
    ],
)
def test_a_kept_value_is_cast_where_nothing_is_lost(
    folder: Path, value: object, kind: pa.DataType, kept: object
) -> None:
    data = _written(folder, {"image": b"i", "x": value})
    columns = Columns(keep=pa.schema([("x", kind)]))
    assert drain(data, "tfrecord", columns=columns)[0] == [
        Record(None, b"i", {"x": kept})
    ]


@pytest.mark.parametrize("columns", [Columns(), Columns(image="label")])
def test_an_unknown_feature_is_refused_with_those_there_are(
    folder: Path, columns: Columns
) -> None:
    shard = shard_of(write_tfrecord(folder / "plain", EXAMPLES), "tfrecord")
    with pytest.raises(ColumnError) as refused:
        kept_types(shard, columns, ["lable"])
    wanted = "'label'" if columns.image else "'lable'"
    assert wanted in str(refused.value) or "no feature label" in str(refused.value)
    assert str(refused.value).endswith("image/encoded, image/filename, label")


def test_the_own_writer_writes_what_tensorflow_reads(folder: Path) -> None:
    import tensorflow as tf

    write_own(str(folder / "own"), [{"image/encoded": b"A" * 90, "key": b"k"}])
    (raw,) = tf.data.TFRecordDataset(str(folder / "own")).as_numpy_iterator()
    features = tf.train.Example.FromString(raw).features.feature
    assert features["image/encoded"].bytes_list.value[0] == b"A" * 90
    assert drain((folder / "own").read_bytes(), "tfrecord") == (
        [Record("k", b"A" * 90)],
        None,
    )
