"""Writers of shards in every format, independent of the readers."""

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from transforms import storage
from transforms.formats import Columns, DamagedShardError, Record, read_records
from transforms.shard import File, Shard

Sample = tuple[str, Mapping[str, bytes]]
"""A key, and the content of its members by extension."""


def write_tar(
    path: Path,
    samples: Iterable[Sample],
    *,
    gz: bool = False,
    form: int = tarfile.GNU_FORMAT,
) -> Path:
    """Writes samples as WebDataset does: `<key>.<extension>`, one after the other."""
    with tarfile.open(path, "w:gz" if gz else "w", format=form) as tar:
        for key, members in samples:
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_tfrecord(
    path: Path, examples: Iterable[Mapping[str, object]], *, gz: bool = False
) -> Path:
    """Writes tf.Examples with TensorFlow; values are bytes, int, float or lists."""
    import tensorflow as tf

    options = tf.io.TFRecordOptions(compression_type="GZIP" if gz else "")
    with tf.io.TFRecordWriter(str(path), options) as sink:
        for features in examples:
            named = {name: _feature(value) for name, value in features.items()}
            example = tf.train.Example(features=tf.train.Features(feature=named))
            sink.write(example.SerializeToString())
    return path


def _feature(value: object) -> object:
    import tensorflow as tf

    values = value if isinstance(value, list) else [value]
    if all(isinstance(each, bytes) for each in values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if all(isinstance(each, int) for each in values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def write_parquet(
    path: Path,
    rows: Sequence[Mapping[str, object]],
    *,
    hf: bool = False,
    schema: pa.Schema | None = None,
    rows_per_group: int = 100,
    **options: object,
) -> Path:
    """Writes rows by column name.

    Args:
      path: Of the file.
      rows: Of any columns.
      hf: Turns columns `bytes` and `path` into Hugging Face's struct `image`.
      schema: Types, where the values do not tell them.
      rows_per_group: Rows of a row group.
      options: For `pyarrow.parquet.write_table`.
    """
    if hf:
        rows = [
            {
                "image": {"bytes": row["bytes"], "path": row["path"]},
                **{name: row[name] for name in row if name not in ("bytes", "path")},
            }
            for row in rows
        ]
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(table, path, row_group_size=rows_per_group, **options)
    return path


def write_files(folder: Path, images: Mapping[str, bytes]) -> Path:
    """Writes files by name, which may have folders."""
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def shard_of(path: Path, form: str) -> Shard:
    """A shard of one file."""
    return Shard(str(path), form, (File(str(path), path.stat().st_size, 1.0),))


def drain(
    source: Shard | bytes, form: str = "", *, columns: Columns | None = None
) -> tuple[list[Record], DamagedShardError | None]:
    """All records of a shard, and the damage that ends it.

    Args:
      source: The shard, or the content of its file.
      form: The format of a content.
      columns: What to read.
    """
    opener = storage.open_input
    if isinstance(source, bytes):
        data = source
        source = Shard("memory", form, (File("memory", len(data), 1.0),))

        def opener(uri: str) -> BinaryIO:
            return io.BytesIO(data)

    records: list[Record] = []
    try:
        for record in read_records(source, columns or Columns(), open_input=opener):
            records += [record]
    except DamagedShardError as damage:
        return records, damage
    return records, None
