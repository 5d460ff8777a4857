"""`bitbeam demo`: sample shards in every format, the real job on them, a look at it."""

import io
import os
import shlex
import tarfile

import numpy as np
from PIL import Image, ImageDraw
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from . import errors
from .options import InputOptions, ModelOptions, OutputOptions, RunOptions

_MODEL = "random:R50x1:21843"
_PICTURES, _SIDE = 12, (320, 240)


def demo(folder: str) -> int:
    """Makes shards below a folder, runs the job on them, shows some rows.

    Returns:
      The exit code of the run.

    Raises:
      UsageError: The folder cannot be written.
    """
    shards = os.path.join(folder, "shards")
    output = os.path.join(folder, "output")
    try:
        _write_shards(shards)
    except OSError as error:
        raise errors.UsageError(f"--output {folder}: {error.strerror}") from error
    options = RunOptions(
        inputs=InputOptions(patterns=(shards,), keep_columns=("txt",)),
        model=ModelOptions(model=_MODEL, top_k=3),
        output=OutputOptions(folder=output),
    )
    command = ["bitbeam", "run", "--input", shards, "--model", _MODEL, "--top_k", "3"]
    command += ["--keep_columns", "txt", "--output", output]
    print(f"$ {shlex.join(command)}", flush=True)
    from .run import run

    code = run(options)
    if code == errors.DONE:
        _show(output)
    return code


def _write_shards(folder: str) -> None:
    """One shard of each format: drawn pictures, and one that is cut short."""
    os.makedirs(os.path.join(folder, "files"), exist_ok=True)
    pictures = [_picture(seed) for seed in range(_PICTURES)]
    _write_tar(os.path.join(folder, "sample.tar"), pictures)
    _write_tfrecord(os.path.join(folder, "sample.tfrecord"), pictures)
    _write_parquet(os.path.join(folder, "sample.parquet"), pictures)
    for number, picture in enumerate(pictures):
        path = os.path.join(folder, "files", f"picture-{number:02d}.jpg")
        with open(path, "wb") as sink:
            sink.write(picture)
    with open(os.path.join(folder, "files", "cut-short.jpg"), "wb") as sink:
        sink.write(pictures[0][: len(pictures[0]) // 2])


def _picture(seed: int) -> bytes:
    """A JPEG of a sky with discs, another for each seed."""
    random = np.random.default_rng(seed)
    width, height = _SIDE
    top, bottom = random.integers(0, 256, (2, 1, 1, 3))
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3))
    image = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = random.integers(0, _SIDE)
        radius = int(random.integers(8, 70))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def _write_tar(path: str, pictures: list[bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, picture in enumerate(pictures):
            caption = f"discs, drawn with seed {number}".encode()
            for suffix, content in (("jpg", picture), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _write_tfrecord(path: str, pictures: list[bytes]) -> None:
    from transforms.formats.tfrecord import write_tfrecord

    write_tfrecord(path, [{"image/encoded": picture} for picture in pictures])


def _write_parquet(path: str, pictures: list[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"image": {"bytes": picture, "path": f"picture-{number:02d}.jpg"}}
        for number, picture in enumerate(pictures)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _show(output: str) -> None:
    """Prints a few rows of both tables, and how to read all of them."""
    import pyarrow.parquet as pq

    console = Console()
    table = pq.read_table(os.path.join(output, "embeddings"))
    console.print(_rows_table(table.to_pylist()[:: max(1, len(table) // 6)]))
    bad = pq.read_table(os.path.join(output, "errors")).to_pylist()
    for row in bad:
        console.print(
            f"errors: {row['key']}: {row['stage']}: {row['error']}: {row['message']}",
            highlight=False,
            soft_wrap=True,
        )
    print(
        f"{len(table)} rows in {output}/embeddings, {len(bad)} in {output}/errors. All"
        " labels and embeddings come from random weights and mean nothing.\n"
        f"Look on:  duckdb -c \"SELECT * FROM '{output}/embeddings/*.parquet'\""
    )


def _rows_table(rows: list[dict[str, object]]) -> Table:
    table = Table(box=SIMPLE)
    widths = {"shard": 14, "row": 3, "key": 13, "embedding": 12, "best label": 14}
    for name, width in {**widths, "score": 5}.items():
        table.add_column(name, no_wrap=True, width=width)
    for row in rows:
        embedding, predictions = row["embedding"], row["predictions"]
        assert isinstance(embedding, list) and isinstance(predictions, list)
        start = ", ".join(f"{value:.2f}" for value in embedding[:2])
        table.add_row(
            str(row["shard"]).rsplit("/", 1)[-1].split("#")[0],
            str(row["row"]),
            str(row["key"]).rsplit("/", 1)[-1],
            f"{start}, …",
            predictions[0]["label"],
            f"{predictions[0]['score']:.3f}",
        )
    return table
