"""What the pages show and name works and is there."""

import importlib.util
import json
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from apache_beam.io.filesystems import FileSystems
from google.cloud import storage as google_storage

from pipeline import launch
from pipeline.arguments import build_parser
from pipeline.cli import main
from pipeline.errors import UsageError
from pipeline.rates import PACKAGED
from tests import documented, emulators, fake_dataflow, outputs, runners
from tests.emulators import BUCKET
from tests.fake_dataflow import FakeDataflow
from transforms import storage
from transforms.bit.random_weights import RandomWeights

gcs, _gcs_port = emulators.gcs, emulators._gcs_port
s3, _s3_port = emulators.s3, emulators._s3_port
google_credentials = emulators.google_credentials

# Of docker and its files, and of programs of Beam's that are not Beam's options.
_OTHERS = {"--build-arg", "--from", "--worker_pool", "--port", "--service_port"}
_MODEL = "BiT-M-R50x1.npz"
_POOL = runners.Mode("pool", worker_pool=True)
_JAVA = """#!/bin/sh
echo "$@" > {log}
while [ "$1" != --job-port ]; do shift; done
exec {python} -m {server} --port="$2"
"""


def _ours() -> set[str]:
    """Options of all commands."""
    [commands] = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    return {
        option
        for parser in commands.choices.values()  # type: ignore[union-attr]
        for action in parser._actions
        for option in action.option_strings
    }


def _is_beams(option: str) -> bool:
    try:
        launch.storage_options((option,))
    except UsageError as error:
        return not str(error).startswith("unknown option")
    return True


@pytest.mark.parametrize("page", documented.PAGES, ids=lambda page: page.name)
def test_options_that_pages_name_are_known(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever asks whether an option is Beam's sets it; this puts them back.
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    ours = _ours() | documented.benchmark_options()
    assert {"--once", "--input", "--rates", "--gpu"} < ours
    assert not _is_beams("--ruuner")
    assert [
        option
        for option in documented.option_names(page)
        if option not in ours | _OTHERS and not _is_beams(option)
    ] == []


@pytest.mark.parametrize("page", documented.PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_pages_name_are_there(page: Path) -> None:
    paths = documented.paths(page)
    assert [each for each in paths if not (documented.ROOT / each).exists()] == []
    modules = [each for each in documented.modules(page) if each != "venv"]
    assert [each for each in modules if importlib.util.find_spec(each) is None] == []


def test_functions_that_the_page_on_storage_names_are_there() -> None:
    named = re.findall(r"`storage\.(\w+)\(", documented.text("storage.md"))
    assert sorted(named) == ["check_access", "remove_stale_partials"]
    assert all(callable(getattr(storage, name)) for name in named)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small checkpoint of the name that the pages use."""
    np.savez(tmp_path / _MODEL, **dict(RandomWeights.parse("random:R14x1").tensors()))
    return tmp_path / _MODEL


def test_the_page_on_plans_works(
    small_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(small_source / "a.tar", tmp_path / "train-0.tar")
    rates = json.loads(PACKAGED.read_text())
    (tmp_path / "my-rates.json").write_text(json.dumps({**rates, "dated": "my day"}))
    monkeypatch.chdir(tmp_path)
    [plan, with_rates] = documented.commands("plan.md", "bitbeam")
    plan = [word.replace("/data", str(tmp_path)) for word in plan]
    plan[plan.index("--model") + 1] = "random:R14x1"
    assert with_rates[-2:] == ["--input", "..."]
    for command in (plan, [*with_rates[:-2], *plan[1:]]):
        assert main(command) == 0
    shown = capsys.readouterr().out
    assert re.search(r"tar +1 ", shown)
    assert shown.count("rates of my day, from my-rates.json") == 1


def test_the_page_on_dataflow_works(
    gcs: google_storage.Bucket,
    small_source: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its commands one after the other, against a service that does the work."""
    fake_dataflow.hurry(monkeypatch)
    gcs.client.create_bucket("my-bucket")
    for name, file in (
        ("images/b.parquet", small_source / "b.parquet"),
        (f"models/{_MODEL}", model),
    ):
        storage.write_whole(f"gs://my-bucket/{name}", file.read_bytes())
    plan, *runs = documented.commands("dataflow.md", "bitbeam")
    assert main(plan) == 0
    service = FakeDataflow(fake_dataflow.replay)
    submitted = []
    with fake_dataflow.serving(service) as port:
        for run in runs:
            endpoint = ("--dataflow_endpoint", f"http://localhost:{port}")
            assert main([*run, *endpoint]) == 0
            submitted.append(service.requests.count("POST jobs"))
    assert submitted == [0, 1, 2]
    assert "bitbeam: done: 12 images in " in capsys.readouterr().out
    verify = "verify gs://my-bucket/embeddings"
    assert f"`bitbeam {verify}`" in documented.text("dataflow.md")
    assert main(verify.split()) == 0


def _place(command: list[str], option: str, value: str) -> list[str]:
    """A command with another value of an option that it has."""
    at = command.index(option) + 1
    return [*command[:at], value, *command[at + 1 :]]


def test_one_machine_is_enough_to_try_the_page_on_runners(
    small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, pool, run, *_ = documented.commands("runners.md")
    assert server == ["python", "-m", runners.JOB_SERVER, "--port=8099"]
    assert pool == ["python", "-m", runners.WORKER_POOL, "--service_port=50000"]
    (tmp_path / "shards").mkdir()
    shutil.copy(small_source / "a.tar", tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    assert "localhost:8099" in run and run[-1] == "localhost:50000"
    # These ports may be somebody's here.
    with runners.started(runners.mode("external")) as options:
        given = dict(zip(options[::2], options[1::2], strict=True))
        for option in ("--job_endpoint", "--environment_config"):
            run = _place(run, option, given[option])
        assert main(run[1:]) == 0
    assert outputs.embeddings(tmp_path / "table").num_rows == 18


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beam's own job server as `java`; gives the file with what it was called with."""
    server, log = runners.JOB_SERVER, tmp_path / "java.log"
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(_JAVA.format(log=log, python=sys.executable, server=server))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    return log


@pytest.fixture
def pool(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a pool of workers listens, which starts them as Beam's images do."""
    boot = tmp_path / "boot"
    boot.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.boot "$@"\n')
    boot.chmod(boot.stat().st_mode | stat.S_IXUSR)
    with runners.started(_POOL, boot=boot) as (_, address):
        yield address


def _cluster(name: str) -> list[str]:
    """The command for a cluster, of the page on runners."""
    [command] = (
        words for words in documented.commands("runners.md", "bitbeam") if name in words
    )
    jar = command[command.index(f"--{name[:5].lower()}_job_server_jar") + 1]
    Path(jar).touch()
    return command


def test_the_command_for_flink_works_with_a_job_server_in_its_place(
    gcs: google_storage.Bucket, java: Path, pool: str, small_source: Path, model: Path
) -> None:
    gcs.blob("shards/a.tar").upload_from_filename(str(small_source / "a.tar"))
    gcs.blob(_MODEL).upload_from_filename(str(model))
    command = _cluster("FlinkRunner")
    assert main(_place(command, "--environment_config", pool)) == 0
    assert "--flink-master http://flink-jobmanager:8081" in java.read_text()
    assert main(["verify", f"gs://{BUCKET}/table"]) == 0


def test_the_command_for_spark_works_with_a_job_server_in_its_place(
    s3: emulators.S3, java: Path, pool: str, small_source: Path, model: Path
) -> None:
    s3.client.upload_file(str(small_source / "a.tar"), BUCKET, "shards/a.tar")
    s3.client.upload_file(str(model), BUCKET, _MODEL)
    command = _place(_cluster("SparkRunner"), "--environment_config", pool)
    here = [each for each in s3.arguments if "region" not in each]
    assert main([*command, *here]) == 0
    assert "--spark-master-url spark://spark-master:7077" in java.read_text()
    assert main(["verify", f"s3://{BUCKET}/table", *here]) == 0
