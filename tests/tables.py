"""A small real output of every kind of shard, and ways to spoil one."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cli import main
from tests import photos, shards
from transforms import parquet
from transforms.part import totals_of
from transforms.write import summary_of

MODEL = ("--model", "random:R14x1:1000", "--image_size", "64", "--batch_size", "4")
RUN = (*MODEL, "--rows_per_part", "8")

Change = Callable[[pa.Table], pa.Table]


def images(count: int) -> list[bytes]:
    """Small photographs, all different; the third is none, the sixth is cut short."""
    made = [
        photos.encode(photos.photograph(64, 40 + number), "jpeg")
        for number in range(count)
    ]
    made[2] = b"no image at all"
    made[5] = made[5][:300]
    return made


def write_shards(folder: Path) -> Path:
    """Shards of all formats: 20, 12, 12 and 14 rows, two of each bad."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = images(20)
    samples = [(f"{n:03d}", {"jpg": each}) for n, each in enumerate(pictures)]
    shards.write_tar(folder / "a.tar", samples)
    rows = [{"jpg": each} for each in pictures[:12]]
    shards.write_parquet(folder / "b.parquet", rows, compression="none")
    shards.write_tfrecord(
        folder / "c.tfrecord", [{"image/encoded": each} for each in pictures[:12]]
    )
    files = {f"{n:03d}.jpg": each for n, each in enumerate(pictures[:14])}
    shards.write_files(folder / "d", files)
    return folder


def run(output: Path, *inputs: Path, options: tuple[str, ...] = RUN) -> int:
    """`bitbeam run`, in this process."""
    arguments = ["run", "--output", str(output), *options]
    for path in inputs:
        arguments += ["--input", str(path)]
    return main(arguments)


def tables(output: Path, table: str = "*") -> list[Path]:
    """The files of one table or both, sorted."""
    return sorted(output.glob(f"{table}/*.parquet"))


def with_rows(paths: list[Path]) -> list[Path]:
    """Those that have a row.

    How image files are grouped depends on their paths: a part may be of one bad image,
    and then its table has none.
    """
    return [path for path in paths if pq.ParquetFile(path).metadata.num_rows]


def part(output: Path, *, shard: str, first: int, table: str = "embeddings") -> Path:
    """The one file of a part."""
    [path] = output.glob(f"{table}/{shard}-*-{first:010d}*.parquet")
    return path


@contextlib.contextmanager
def changed(*paths: Path) -> Iterator[None]:
    """At the end, puts files back as they were: there or not, content, time."""
    before = {path: _state(path) if path.exists() else None for path in paths}
    try:
        yield
    finally:
        for path, state in before.items():
            if state is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(state[0])
                os.utime(path, ns=(state[1], state[1]))


def _state(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


def with_value(rows: pa.Table, name: str, at: int, value: object) -> pa.Table:
    """The rows with one value changed."""
    values = rows[name].to_pylist()
    values[at] = value
    field = rows.schema.field(name)
    return rows.set_column(
        rows.schema.get_field_index(name), field, pa.array(values, field.type)
    )


def rewrite(path: Path, change: Change) -> None:
    """Writes a file again with other rows, its metadata kept, as an editor would."""
    old = pq.ParquetFile(path)
    metadata = {
        key: value
        for key, value in old.metadata.metadata.items()
        if key != b"ARROW:schema"
    }
    table = change(old.read())
    old.close()
    pq.write_table(table.replace_schema_metadata(metadata), path)


def forge(path: Path, change: Change, **fields: object) -> None:
    """Writes an embeddings file again with digests that fit, in the summary too.

    Args:
      path: Of the embeddings file.
      change: Of its rows.
      fields: Of its description that are to be others.
    """
    _encode(path, change, {**_described(path), **fields})
    _update_summary(path)


def forge_errors(path: Path, change: Change, **fields: object) -> None:
    """Writes an errors file again, with digests that fit everywhere.

    Args:
      path: Of the errors file.
      change: Of its rows.
      fields: Of both descriptions that are to be others.
    """
    digest = _encode(path, change, {**_described(path), **fields})
    good = path.parent.parent / "embeddings" / path.name
    forge(good, lambda table: table, errors_digest=digest, **fields)


def _described(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return parquet.read_description(file)[0]


def _encode(path: Path, change: Change, description: dict[str, object]) -> str:
    with path.open("rb") as file:
        members = tuple(parquet.members_of(file).items())
    table = change(pq.ParquetFile(path).read().replace_schema_metadata(None))
    description = {k: v for k, v in description.items() if k != "data_digest"}
    encoded = parquet.encode(table, description, members=members)
    path.write_bytes(encoded.content)
    return encoded.digest


def _update_summary(path: Path) -> None:
    output = path.parent.parent
    parts = []
    for file in tables(output, "embeddings"):
        with file.open("rb") as source:
            description, digest = parquet.read_description(source)
        parts.append(totals_of(description, digest=digest))
    digest = hashlib.sha256((output / "run.json").read_bytes()).hexdigest()
    summary = {**summary_of(parts), "run_digest": digest}
    text = json.dumps(summary, indent=2) + "\n"
    (output / "summary.json").write_text(text)
