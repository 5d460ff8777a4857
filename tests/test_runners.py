"""The same command on other runners: the same files, also from another's half."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from tests import emulators, outputs, runners, tables
from transforms import metrics
from transforms.bit.random_weights import RandomWeights

s3 = emulators.s3
_s3_port = emulators._s3_port

_RUN = ("--model", "random:R14x1:9", "--image_size", "64", "--precision", "float32")
_PARTS = ("--batch_size", "4", "--rows_per_part", "8")
_ROWS = 58


def _modes(*fast: str) -> list[object]:
    """All modes but the reference; those not named take too long for every day."""
    return [
        pytest.param(mode, id=mode.name)
        if mode.name in fast
        else pytest.param(mode, id=mode.name, marks=pytest.mark.slow)
        for mode in runners.MODES[1:]
    ]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Of a run, with class names that the workers have to find."""
    labels = tmp_path_factory.mktemp("labels") / "names.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(9)))
    return (*_RUN, *_PARTS, "--labels", str(labels))


@pytest.fixture(scope="module")
def whole(
    small_source: Path,
    options: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The output of a run in this process."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert tables.run(output, small_source, options=options) == 0
    return output


Run = Callable[[runners.Mode], tuple[int, str]]


@pytest.fixture
def run(
    small_source: Path,
    options: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the job in a mode; gives the exit code, and the result or the error."""

    def run(mode: runners.Mode) -> tuple[int, str]:
        before = metrics.tally().get("images_read", 0)
        capsys.readouterr()
        with runners.started(mode) as beam_options:
            every = (*options, *beam_options)
            code = tables.run(tmp_path / "out", small_source, options=every)
        here = metrics.tally().get("images_read", 0) - before
        assert code != 0 or (here == 0) == mode.elsewhere
        printed = capsys.readouterr()
        # What bound the run comes after the result.
        [line] = printed.out.splitlines()[:1] or printed.err.splitlines()[-1:]
        return code, line

    return run


@pytest.mark.parametrize("mode", _modes("multi_threading", "external"))
def test_the_files_are_the_same(
    mode: runners.Mode, run: Run, whole: Path, small_source: Path, tmp_path: Path
) -> None:
    code, line = run(mode)
    assert code == 0
    # Metrics of all workers have come back.
    assert line.startswith(f"bitbeam: done: {_ROWS} images in ")
    assert "50 good, 8 bad (4 not_an_image, 4 truncated_image)" in line
    assert outputs.files(tmp_path / "out") == outputs.files(whole)
    assert main(["verify", str(tmp_path / "out"), "--input", str(small_source)]) == 0


@pytest.mark.parametrize("mode", _modes("multi_processing"))
def test_what_another_runner_has_begun_is_finished(
    mode: runners.Mode, run: Run, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    gone = runners.halve(tmp_path / "out")
    code, line = run(mode)
    assert code == 0
    assert line.startswith(f"bitbeam: done: {gone} images in ")
    assert outputs.files(tmp_path / "out") == outputs.files(whole)


@pytest.mark.parametrize("mode", _modes())
def test_a_failure_is_one_line(
    mode: runners.Mode, run: Run, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    # Of a shard that is done: only a worker reads it.
    left = tables.tables(tmp_path / "out", "embeddings")[0]
    left.write_bytes(left.read_bytes()[:-1])
    code, line = run(mode)
    assert code == 1
    assert line.startswith("bitbeam: failed: ") and str(left) in line


@pytest.mark.slow
def test_a_failure_elsewhere_comes_without_traces(
    whole: Path, small_source: Path, options: tuple[str, ...], tmp_path: Path
) -> None:
    """In a process of its own, as pytest has taken the log of this one."""
    shutil.copytree(whole, tmp_path / "out")
    left = tables.tables(tmp_path / "out", "embeddings")[0]
    left.write_bytes(left.read_bytes()[:-1])
    command = [sys.executable, "-m", "pipeline", "run", "--input", str(small_source)]
    command += ["--output", str(tmp_path / "out"), *options]
    with runners.started(runners.mode("external")) as beam_options:
        done = subprocess.run(
            [*command, *beam_options], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count(str(left)) == 1


@pytest.mark.slow
def test_options_and_the_model_cache_reach_workers(
    s3: emulators.S3,
    small_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shards, model and output are in a store that only Beam's options lead to."""
    bucket = f"s3://{emulators.BUCKET}"
    np.savez(tmp_path / "m.npz", **dict(RandomWeights.parse("random:R14x1").tensors()))
    s3.client.upload_file(str(tmp_path / "m.npz"), emulators.BUCKET, "m.npz")
    s3.client.upload_file(str(small_source / "a.tar"), emulators.BUCKET, "in/a.tar")
    cache = tmp_path / "cache"
    monkeypatch.setenv("BITBEAM_CACHE", str(cache))
    boot = tmp_path / "boot"
    boot.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.boot "$@"\n')
    boot.chmod(boot.stat().st_mode | stat.S_IXUSR)
    with runners.started(runners.mode("external"), boot=boot) as beam_options:
        command = ["run", "--model", f"{bucket}/m.npz", "--image_size", "64"]
        command += ["--input", f"{bucket}/in", "--output", f"{bucket}/out"]
        command += ["--batch_size", "4", "--rows_per_part", "8"]
        assert main([*command, *s3.arguments, *beam_options]) == 0
    listed = s3.client.list_objects_v2(Bucket=emulators.BUCKET, Prefix="out/")
    names = [each["Key"] for each in listed["Contents"]]
    assert sum(name.startswith("out/embeddings/a_tar-") for name in names) == 3
    assert "out/summary.json" in names
    assert any(os.scandir(cache))
