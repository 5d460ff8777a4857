"""The main job from the command line to the files."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest

from pipeline.cli import main
from pipeline.job import plan_job
from pipeline.options import InputOptions, ModelOptions, OutputOptions, RunOptions
from tests import outputs, photos, pipelines, shards
from transforms import (
    Block,
    DecodeImages,
    PredictImages,
    ReadImages,
    WriteParts,
)

MODEL = "random:R14x1:1000"
SMALL = ("--image_size", "64", "--batch_size", "4", "--rows_per_part", "12")
KINDS = (
    *("jpeg", "jpeg_progressive", "jpeg_grey", "jpeg_cmyk", "png", "png_rgba"),
    *("png_palette8", "png_grey16", "webp", "gif", "bmp", "tiff", "tiff_cmyk", "avif"),
)
_EXTENSIONS = {"tiff_cmyk": "tif", "jpeg": "jpg"}


def _run(output: Path, *inputs: Path | str, options: tuple[str, ...] = SMALL) -> int:
    arguments = ["run", "--model", MODEL, "--output", str(output), *options]
    for path in inputs:
        arguments += ["--input", str(path)]
    return main(arguments)


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    """A photograph in each encoding, by a name with its usual extension."""
    photographs = list(photos.photographs().values())
    encoded = {}
    for number, kind in enumerate(KINDS):
        picture = photographs[number % len(photographs)].resize((200, 150 + number))
        extension = _EXTENSIONS.get(kind, kind.split("_")[0])
        encoded[f"{number:03d}-{kind}.{extension}"] = photos.encode(picture, kind)
    return encoded


@pytest.fixture(scope="module")
def every_format(
    images: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same images in shards of all formats."""
    folder = tmp_path_factory.mktemp("shards")
    samples = [
        (name.split(".")[0], {name.split(".")[1]: data, "txt": name.encode()})
        for name, data in images.items()
    ]
    examples = [
        {"image/encoded": data, "image/filename": name.encode(), "txt": name.encode()}
        for name, data in images.items()
    ]
    rows = [{"bytes": data, "path": name, "txt": name} for name, data in images.items()]
    shards.write_tar(folder / "a.tar", samples)
    shards.write_tar(folder / "b.tar.gz", samples, gz=True)
    shards.write_tfrecord(folder / "c.tfrecord", examples)
    shards.write_tfrecord(folder / "d.tfrecord.gz", examples, gz=True)
    shards.write_parquet(folder / "e.parquet", rows, hf=True, rows_per_group=5)
    shards.write_files(folder / "f", images)
    return folder


@pytest.fixture(scope="module")
def table(every_format: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run on all of them."""
    output = tmp_path_factory.mktemp("output")
    assert _run(output, every_format, options=(*SMALL, "--keep_columns", "txt")) == 0
    return output


def test_every_image_of_every_format_is_a_row(
    table: Path, images: dict[str, bytes]
) -> None:
    rows = outputs.embeddings(table)
    assert outputs.errors(table) == []
    expected = sorted(hashlib.sha256(data).digest() for data in images.values())
    found: dict[str, list[bytes]] = {}
    for shard, digest in zip(
        rows["shard"].to_pylist(), rows["sha256"].to_pylist(), strict=True
    ):
        found.setdefault(_base(shard), []).append(digest)
    assert {name: sorted(digests) for name, digests in found.items()} == {
        name: expected
        for name in (
            *("a.tar", "b.tar.gz", "c.tfrecord", "d.tfrecord.gz", "e.parquet", "f"),
        )
    }


def test_embeddings_are_the_same_whatever_the_format(
    table: Path, images: dict[str, bytes]
) -> None:
    rows = outputs.embeddings(table)
    by_image: dict[bytes, list[list[float]]] = {}
    for digest, vector in zip(
        rows["sha256"].to_pylist(), rows["embedding"].to_pylist(), strict=True
    ):
        by_image.setdefault(digest, []).append(vector)
    assert len(by_image) == len(images)
    for vectors in by_image.values():
        assert len(vectors) == 6
        np.testing.assert_allclose(np.array(vectors), vectors[:1] * 6, atol=1e-5)
    distinct = {tuple(np.round(vectors[0], 3)) for vectors in by_image.values()}
    assert len(distinct) == len(images)


def test_rows_have_their_names_and_sizes(table: Path) -> None:
    rows = outputs.embeddings(table)
    first = {
        _base(row["shard"]): row for row in rows.to_pylist() if "000-jpeg" in row["key"]
    }
    assert first["a.tar"]["key"] == "000-jpeg"
    assert first["c.tfrecord"]["key"] == "000-jpeg.jpg"
    assert first["e.parquet"]["key"] == "000-jpeg.jpg"
    assert first["f"]["key"].endswith("/f/000-jpeg.jpg")
    assert first["f"]["key"].startswith("/")
    assert {(row["width"], row["height"]) for row in first.values()} == {(200, 150)}
    kept = {name: row["txt"] for name, row in first.items()}
    assert kept["a.tar"] == kept["c.tfrecord"] == kept["e.parquet"] == "000-jpeg.jpg"
    assert kept["f"] is None


def test_predictions_are_named_and_best_first(table: Path) -> None:
    for predictions in outputs.embeddings(table)["predictions"].to_pylist():
        scores = [prediction["score"] for prediction in predictions]
        assert len(scores) == 10
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) <= 1.0  # a softmax
        wnids = [prediction["wnid"] for prediction in predictions]
        assert all(wnid.startswith("n") and len(wnid) == 9 for wnid in wnids)


def test_the_output_says_what_it_is(table: Path) -> None:
    run = json.loads((table / "run.json").read_text())
    assert run["model"]["name"] == MODEL
    assert run["model"]["embedding_size"] == 2048
    assert run["model"]["meaningless"] is True
    assert run["images"] == {
        "resize": "antialias",
        "fit": "stretch",
        "max_pixels": 100_000_000,
    }
    assert run["columns"] == {"txt": "string"}
    [checks] = run["checks"]
    assert checks[MODEL]["precision"]["asked"] == "auto"
    assert checks[MODEL]["precision"]["used"] in ("float32", "bfloat16", "float16")
    summary = json.loads((table / "summary.json").read_text())
    # Where plain files are grouped depends on their names, so on the folder.
    groups = {shard for shard in _column(table, "shard") if "#" in shard}
    digest = hashlib.sha256((table / "run.json").read_bytes()).hexdigest()
    assert summary.pop("run_digest") == digest
    assert len(summary.pop("manifest")) == len(outputs.parts(table))
    assert summary == {
        "shards": 5 + len(groups),
        "parts": len(outputs.parts(table)),
        "images": 84,
        "good": 84,
        "bad": 0,
        "errors": {},
    }


def _column(table: Path, name: str) -> list[Any]:
    return outputs.embeddings(table)[name].to_pylist()


def test_a_second_model_labels_from_the_same_decode(
    table: Path, every_format: Path, tmp_path: Path
) -> None:
    both = (*SMALL, "--label_model", "random:R14x1:21843:7", "--top_k", "3")
    assert _run(tmp_path, every_format / "a.tar", options=both) == 0
    alone = outputs.embeddings(table).slice(0, 14)
    rows = outputs.embeddings(tmp_path)
    assert rows["sha256"].to_pylist() == alone["sha256"].to_pylist()
    assert rows["embedding"].to_pylist() == alone["embedding"].to_pylist()
    ids = {
        prediction["class_id"]
        for predictions in rows["predictions"].to_pylist()
        for prediction in predictions
    }
    assert max(ids) > 1000
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["label_model"]["classes"] == 21_843
    assert run["predictions"]["activation"] == "sigmoid"


def _options(every_format: Path, output: Path) -> RunOptions:
    return RunOptions(
        inputs=InputOptions(patterns=(str(every_format),), keep_columns=("txt",)),
        model=ModelOptions(MODEL, batch_size=4),
        output=OutputOptions(str(output), rows_per_part=12),
    )


class _Twice(beam.PTransform):
    """Every block twice, then shuffled."""

    def expand(self, blocks: beam.pvalue.PCollection) -> beam.pvalue.PCollection:
        return blocks | beam.FlatMap(_pair) | beam.Reshuffle()


def _pair(block: Block) -> list[Block]:
    return [block, block]


@pytest.mark.parametrize("between", [beam.Reshuffle, _Twice])
def test_the_graph_does_not_lean_on_fusion(
    table: Path,
    every_format: Path,
    tmp_path: Path,
    between: Callable[[], beam.PTransform],
) -> None:
    options = _options(every_format, tmp_path)
    images = dataclasses.replace(options.images, image_size=64)
    job = plan_job(dataclasses.replace(options, images=images))

    def build(pipeline: beam.Pipeline) -> None:
        (
            pipeline
            | beam.Create(job.shards)
            | ReadImages(job.columns, cut=job.cut)
            | "AfterRead" >> between()
            | DecodeImages(job.preprocess)
            | "AfterDecode" >> between()
            | PredictImages(job.models, outputs=job.outputs)
            | "AfterPredict" >> between()
            | WriteParts(job.sink)
        )

    # Two workers: the blocks of a part come to either.
    pipelines.run(build, workers=2)
    assert outputs.parts(tmp_path) == outputs.parts(table)


def test_the_same_command_again_does_nothing(table: Path, every_format: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in table.rglob("*.parquet")}
    summary = (table / "summary.json").read_bytes()
    assert _run(table, every_format, options=(*SMALL, "--keep_columns", "txt")) == 0
    after = {path: path.stat().st_mtime_ns for path in table.rglob("*.parquet")}
    assert after == before
    assert (table / "summary.json").read_bytes() == summary


def test_metrics_count_what_happened(every_format: Path, tmp_path: Path) -> None:
    from pipeline import graph, output

    job = plan_job(_options(every_format / "a.tar", tmp_path))
    plan = output.prepare(job, overwrite=False)
    result = pipelines.run(lambda pipeline: graph.build(pipeline, job, plan))
    assert pipelines.counters(result) == {
        "shards_read": 1,
        "images_read": 14,
        "bytes_read": (every_format / "a.tar").stat().st_size,
        "images_decoded": 14,
        "bytes_encoded": pipelines.counters(result)["bytes_encoded"],
        "blocks_predicted": 4,
        "images_predicted": 14,
        "parts_written": 2,
        "images_written": 14,
    }
    times = pipelines.distributions(result)
    for step in ("read", "decode", "write"):
        assert 0 < times[f"{step}_usec"] <= times[f"{step}_capacity_usec"]
    assert times["predict_usec"] > 0
    assert 0 < times["decode_clock_usec"] <= times["decode_threads_usec"]
    assert times["active_usec"] > 0.99 * times["write_capacity_usec"]


def _damaged(folder: Path, images: dict[str, bytes]) -> Path:
    """Shards with one fault each, and what may be mistaken for one."""
    good = images["000-jpeg.jpg"]
    samples = [(f"{number}", {"jpg": good}) for number in range(4)]
    whole = shards.write_tar(folder / "whole.tar", samples).read_bytes()
    member = 512 + -(-len(good) // 512) * 512
    (folder / "cut.tar").write_bytes(whole[: member + 512 + len(good) // 2])
    shards.write_tar(folder / "empty.tar", [])
    (folder / "nothing.tfrecord").write_bytes(b"")
    (folder / "no.parquet").write_bytes(b"PAR1 is how it starts")
    bomb = photos.save(photos.photograph(8, 8), "PNG")
    header = bomb[:16] + (50_000).to_bytes(4, "big") * 2 + bomb[24:29]
    header += photos._crc(header[12:29]) + bomb[33:]
    mixed = {
        "a.jpg": good,
        "b.jpg": good[: len(good) // 2],
        "c.png": header,
        "d.jpg": b"",
        "e.jpg": b"no image at all, only words",
        "f.jpg": good,
    }
    shards.write_files(folder / "mixed", mixed)
    return folder


def _base(uri: str) -> str:
    return uri.split("#")[0].rsplit("/", 1)[-1]


def test_bad_input_costs_its_own_rows_only(
    tmp_path: Path, images: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _damaged(tmp_path, images)
    assert _run(tmp_path / "out", folder) == 0
    found = [
        (_base(row["shard"]), _base(row["key"]), row["stage"], row["error"])
        for row in outputs.errors(tmp_path / "out")
    ]
    assert sorted(found) == [
        ("cut.tar", "1", "read", "truncated_shard"),
        ("mixed", "b.jpg", "decode", "truncated_image"),
        ("mixed", "c.png", "decode", "too_large"),
        ("mixed", "d.jpg", "decode", "empty_image"),
        ("mixed", "e.jpg", "decode", "not_an_image"),
        ("no.parquet", "0", "read", "corrupt_shard"),
    ]
    good_rows = outputs.embeddings(tmp_path / "out").to_pylist()
    assert sorted((_base(row["shard"]), _base(row["key"])) for row in good_rows) == [
        ("cut.tar", "0"),
        ("mixed", "a.jpg"),
        ("mixed", "f.jpg"),
        *(("whole.tar", f"{number}") for number in range(4)),
    ]
    last = capsys.readouterr().out.splitlines()[-1]
    assert "13 images" in last
    assert "7 good, 6 bad" in last
    assert "1 truncated_shard" in last


def test_too_many_bad_images_end_in_code_3(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    folder = tmp_path / "in"
    shards.write_files(folder, {"a.jpg": images["000-jpeg.jpg"], "b.jpg": b"x"})
    limit = (*SMALL, "--max_error_rate", "0.4")
    assert _run(tmp_path / "out", folder, options=limit) == 3
    allowed = (*SMALL, "--max_error_rate", "0.5")
    assert _run(tmp_path / "out", folder, options=allowed) == 0


def test_images_that_are_nearly_all_bad_stop_the_run_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": b"no image", "number": number} for number in range(6000)]
    shards.write_parquet(tmp_path / "in.parquet", rows)
    assert _run(tmp_path / "out", tmp_path / "in.parquet") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "2,000 of 2,000 images in a row are bad" in last
    assert "starts as no image format that is read" in last
    read_on = (*SMALL, "--max_error_rate", "1")
    assert _run(tmp_path / "out", tmp_path / "in.parquet", options=read_on) == 0
    assert len(outputs.errors(tmp_path / "out")) == 6000


def test_another_job_is_not_mixed_in(
    table: Path, every_format: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = outputs.files(table)
    other = (*SMALL, "--keep_columns", "txt", "--resize", "bilinear")
    assert _run(table, every_format, options=other) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'images.resize "antialias" there, "bilinear" here' in error
    assert outputs.files(table) == before


def test_overwrite_starts_afresh(tmp_path: Path, images: dict[str, bytes]) -> None:
    folder = shards.write_files(tmp_path / "in", {"a.jpg": images["000-jpeg.jpg"]})
    output = tmp_path / "out"
    assert _run(output, folder) == 0
    old = set(outputs.parts(output))
    (folder / "a.jpg").rename(folder / "b.jpg")
    (output / "notes.txt").write_text("mine")
    crop = (*SMALL, "--fit", "crop", "--overwrite")
    assert _run(output, folder, options=crop) == 0
    assert old.isdisjoint(outputs.parts(output))
    assert len(outputs.parts(output)) == 1
    assert json.loads((output / "run.json").read_text())["images"]["fit"] == "crop"
    assert (output / "notes.txt").read_text() == "mine"


def test_someone_elses_folder_is_left_alone(
    tmp_path: Path, images: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shards.write_files(tmp_path / "in", {"a.jpg": images["000-jpeg.jpg"]})
    theirs = tmp_path / "out/embeddings/theirs.parquet"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"data")
    assert _run(tmp_path / "out", folder, options=(*SMALL, "--overwrite")) == 2
    assert "no run.json" in capsys.readouterr().err
    assert theirs.read_bytes() == b"data"


def _start(tmp_path: Path, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A run in a process of its own, as from a terminal."""
    command = [sys.executable, "-m", "pipeline", "run", "--model", MODEL]
    command += ["--input", str(folder), "--output", str(tmp_path / "out")]
    return subprocess.Popen(
        [*command, "--batch_size", "4", "--rows_per_part", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parent.parent,
    )


def _wait_for_part(output: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(output.glob("embeddings/*.parquet")):
        assert time.monotonic() < deadline, "no part was written in a minute"
        time.sleep(0.02)


def test_an_interrupt_stops_at_once_and_leaves_whole_parts(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    picture = images["000-jpeg.jpg"]
    samples = [(f"{number:05d}", {"jpg": picture}) for number in range(2000)]
    shards.write_tar(tmp_path / "long.tar", samples)
    process = _start(tmp_path, tmp_path / "long.tar")
    _wait_for_part(tmp_path / "out")
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "bitbeam: interrupted; what is written is whole"
    left = outputs.files(tmp_path / "out")
    assert "summary.json" not in left
    assert all(name.endswith((".parquet", "run.json")) for name in left)
    rows: list[Any] = outputs.embeddings(tmp_path / "out")["row"].to_pylist()
    assert len(rows) % 4 == 0 and rows == list(range(len(rows)))
