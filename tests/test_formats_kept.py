"""Columns to keep: how they are named, and what needs no look at a shard."""

import pyarrow as pa
import pytest

from transforms.formats import ColumnError, Columns, kept_types, parse_keep
from transforms.formats.names import format_of
from transforms.shard import Shard


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("label", "label", None),
        ("left.json", "left.json", None),
        ("label:int64", "label", pa.int64()),
        ("a:b:string", "a:b", pa.string()),
        ("x:float32", "x", pa.float32()),
        ("x:binary", "x", pa.binary()),
        ("x:timestamp[us]", "x", pa.timestamp("us")),
        ("x:list<list<int8>>", "x", pa.list_(pa.list_(pa.int8()))),
    ],
)
def test_a_column_is_a_name_and_perhaps_a_type(
    text: str, name: str, kind: pa.DataType | None
) -> None:
    assert parse_keep(text) == (name, kind)


@pytest.mark.parametrize("text", ["", ":", "x:", ":int64", "x:int46", "x:list<y>"])
def test_what_is_no_column_is_refused(text: str) -> None:
    with pytest.raises(ColumnError) as refused:
        parse_keep(text)
    assert "\n" not in str(refused.value)


def test_sidecars_are_text_or_bytes_by_their_extension() -> None:
    names = ["json", "TXT", "left.json", "cls:int64", "npy", "json.gz"]
    assert kept_types(Shard("s", "tar", ()), Columns(), names) == pa.schema(
        {
            "json": pa.string(),
            "TXT": pa.string(),
            "left.json": pa.string(),
            "cls": pa.int64(),
            "npy": pa.binary(),
            "json.gz": pa.binary(),
        }
    )


def test_files_have_no_columns() -> None:
    shard = Shard("s", "files", ())
    assert kept_types(shard, Columns(), []) == pa.schema([])
    with pytest.raises(ColumnError, match="no columns to keep: json, label"):
        kept_types(shard, Columns(), ["json", "label:int64"])


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("/d/a.tar", "tar"),
        ("gs://b/a.TAR.GZ", "tar"),
        ("a.tgz", "tar"),
        ("a.tfrecord", "tfrecord"),
        ("a.tfrecords", "tfrecord"),
        ("a.tfrec", "tfrecord"),
        ("a.tfrecord.gz", "tfrecord"),
        ("train.tfrecord-00000-of-00010", "tfrecord"),
        ("tfrecord_train-00000-of-00010.gz", "tfrecord"),
        ("a.parquet", "parquet"),
        ("a.snappy.pq", "parquet"),
        ("a.JPEG", "files"),
        ("a.tar.png", "files"),
        ("a.gz", None),
        ("train-00000-of-00010", None),
        ("/x.tar/readme", None),
        ("/x.jpg/readme", None),
        ("a.json", None),
        ("tar", None),
    ],
)
def test_a_name_tells_the_format(name: str, form: str | None) -> None:
    assert format_of(name) == form
