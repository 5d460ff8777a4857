"""The same command again does only what is missing, and ends in the same files."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli import main
from tests import outputs, photos, shards, tables
from transforms import metrics

ROOT = Path(__file__).parent.parent


@pytest.fixture
def source(small_source: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(small_source, tmp_path / "in")


def _predicted(output: Path, *inputs: Path) -> int:
    """Runs to the end; gives how many images the model has seen."""
    before = metrics.tally().get("images_predicted", 0)
    assert tables.run(output, *inputs) == 0
    assert main(["verify", str(output)]) == 0
    return metrics.tally().get("images_predicted", 0) - before


def _kill_after_parts(output: Path, *inputs: Path, parts: int) -> None:
    """Starts a run as from a terminal and kills it when so many parts are written."""
    command = [sys.executable, "-m", "pipeline", "run", *tables.RUN]
    command += ["--output", str(output)]
    for path in inputs:
        command += ["--input", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    deadline = time.monotonic() + 60
    while len(tables.tables(output, "embeddings")) < parts:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_run_that_was_killed_ends_in_the_same_files(tmp_path: Path) -> None:
    pictures = tables.images(40) * 12
    samples = [(f"{n:04d}", {"jpg": each}) for n, each in enumerate(pictures)]
    folder = tmp_path / "in"
    folder.mkdir()
    shards.write_tar(folder / "a.tar", samples)
    shards.write_parquet(folder / "b.parquet", [{"jpg": each} for each in pictures])
    assert tables.run(tmp_path / "whole", folder) == 0
    output = tmp_path / "killed"
    _kill_after_parts(output, folder, parts=6)
    assert not (output / "summary.json").exists()
    assert main(["verify", str(output), "--unfinished"]) == 0
    before = _times(output)
    written = outputs.embeddings(output)
    assert 0 < written.num_rows < 912
    assert _predicted(output, folder) == 912 - written.num_rows
    assert outputs.files(output) == outputs.files(tmp_path / "whole")
    after = _times(output)
    done = [path for path in before if path.parent.name == "embeddings"]
    assert len(done) >= 6
    assert [after[path] for path in done] == [before[path] for path in done]


def _times(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in tables.tables(output)}


def test_new_files_of_a_folder_cost_only_themselves(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    picture = photos.encode(photos.photograph(48, 48), "jpeg")
    shards.write_files(folder, {f"{n:04d}.jpg": picture for n in range(200)})
    assert _predicted(output, folder) == 200
    before = _times(output)
    shards.write_files(folder, {"0070a.jpg": picture, "0150a.jpg": picture})
    assert _predicted(output, folder) == 2
    assert before.items() <= _times(output).items()
    assert _predicted(output, folder) == 0


def test_a_shard_that_changed_is_replaced(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(output, source)
    old = {path.name for path in output.glob("embeddings/a_tar-*")}
    picture = photos.encode(photos.photograph(48, 48), "jpeg")
    shards.write_tar(source / "a.tar", [(str(n), {"jpg": picture}) for n in range(9)])
    assert _predicted(output, source) == 9
    new = {path.name for path in output.glob("*/a_tar-*")}
    assert len(new) == 2 and new.isdisjoint(old)
    assert main(["verify", str(output), "--input", str(source)]) == 0


def test_a_file_that_changed_is_replaced_with_its_group(
    source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    _predicted(output, source)
    picture = photos.encode(photos.photograph(48, 48), "jpeg")
    (source / "d/007.jpg").write_bytes(picture)
    [group] = {
        row["shard"]
        for row in outputs.embeddings(output).to_pylist()
        if row["key"].endswith("/d/007.jpg")
    }
    rows = [*outputs.embeddings(output).to_pylist(), *outputs.errors(output)]
    good = [row for row in rows if row["shard"] == group and "sha256" in row]
    assert _predicted(output, source) == len(good)
    assert main(["verify", str(output), "--input", str(source)]) == 0


def test_rows_of_a_shard_that_is_gone_stay(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(output, source)
    before = outputs.files(output)
    (source / "a.tar").unlink()
    assert _predicted(output, source) == 0
    assert outputs.files(output) == before


def test_a_part_that_was_deleted_is_made_again(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(output, source)
    before = outputs.files(output)
    tables.part(output, shard="a_tar", first=8).unlink()
    assert _predicted(output, source) == 8
    assert outputs.files(output) == before


@pytest.mark.parametrize("shard", ["a_tar", "d"])
def test_a_part_that_was_cut_short_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shard: str
) -> None:
    output = tmp_path / "out"
    _predicted(output, source)
    path = sorted(output.glob(f"embeddings/{shard}-*"))[0]
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert tables.run(output, source) in (1, 2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert str(path) in line and "delete it" in line


def test_file_names_that_are_not_text_are_known_again(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    picture = photos.encode(photos.photograph(48, 48), "jpeg")
    shards.write_files(folder, {"a.jpg": picture, "b.jpg": picture})
    odd = os.path.join(os.fsencode(folder), b"caf\xe9.jpg")
    with open(odd, "wb") as file:
        file.write(picture)
    assert _predicted(output, folder) == 3
    before = outputs.files(output)
    assert _predicted(output, folder) == 0
    assert outputs.files(output) == before
    assert main(["verify", str(output), "--input", str(folder)]) == 0


def test_an_output_in_a_folder_of_the_input_is_no_input(source: Path) -> None:
    output = source / "out"
    assert _predicted(output, source) == 50
    before = outputs.files(output)
    assert _predicted(output, source) == 0
    assert outputs.files(output) == before
    assert main(["verify", str(output), "--input", str(source)]) == 0
