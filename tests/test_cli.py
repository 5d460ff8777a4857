"""What is wrong is told in one line, before anything is written."""

from pathlib import Path

import pytest

from pipeline.arguments import build_parser, run_options
from pipeline.cli import main
from tests import photos, shards

MODEL = "random:R14x1:1000"


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    picture = photos.encode(photos.photograph(32, 32), "jpeg")
    return shards.write_parquet(
        tmp_path / "in.parquet", [{"jpg": picture, "label": 3, "caption": "a"}]
    )


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that is used wrongly."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    assert line.startswith("bitbeam: error: ")
    return line.removeprefix("bitbeam: error: ")


def _run(source: Path | str, output: Path, *options: str) -> tuple[str, ...]:
    arguments = ("run", "--input", str(source), "--model", MODEL)
    return (*arguments, "--output", str(output), *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--batch_sise", "8"],
            "unknown option --batch_sise; did you mean --batch_size?",
        ),
        (["--projet", "p"], "unknown option --projet; did you mean --project?"),
        (["stray"], "unknown option stray"),
        (["--batch_size", "0"], "--batch_size 0 is too small; it must be at least 1"),
        (
            ["--batch_size", "all"],
            "argument --batch_size: 'all' is no number; give one, or auto",
        ),
        (["--top_k", "0"], "--top_k 0 is too small; it must be at least 1"),
        (
            ["--image_size", "16"],
            "--image_size 16 is too small; it must be at least 32",
        ),
        (
            ["--min_score", "2"],
            "--min_score 2.0 is not a share; it must lie from 0 to 1",
        ),
        (
            ["--rows_per_part", "100", "--batch_size", "16"],
            "--rows_per_part 100 is not a multiple of --batch_size 16, so each part"
            " would end in a padded batch; try 112",
        ),
        (["--fit", "squash"], "argument --fit: invalid choice: 'squash'"),
        (["--keep_columns", "lable"], "lable"),
        (
            ["--keep_columns", "label", "height"],
            "'height' is a column of bitbeam's own",
        ),
        (["--keep_columns", "label:integer"], "integer"),
        (["--image_column", "picture"], "picture"),
        (["--model", "random:R51x1"], "R51x1"),
        (["--model", "nowhere.npz"], "nowhere.npz"),
        (["--labels", "nowhere.txt"], "nowhere.txt"),
        (
            ["--label_model", "random:R14x1"],
            "--label_model random:R14x1 has no classes",
        ),
    ],
)
def test_a_wrong_option_is_one_line(
    parquet: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in _error(capsys, *_run(parquet, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_a_glob_that_matches_nothing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    glob = tmp_path / "*.tar"
    assert str(glob) in _error(capsys, *_run(glob, tmp_path / "out"))


def test_a_required_option_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model" in _error(capsys, "run", "--input", "x", "--output", "y")


def test_an_output_that_cannot_be_a_folder_is_one_line(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in _error(capsys, *_run(parquet, tmp_path / "file"))


def test_the_columns_that_exist_are_named(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--keep_columns", "lable")
    error = _error(capsys, *_run(parquet, tmp_path / "out", *options))
    assert "label" in error and "caption" in error


def test_options_reach_their_groups() -> None:
    arguments = [
        *("run", "--input", "a.tar", "--input", "b/*.parquet", "--output", "gs://o/t"),
        *("--model", "m.npz", "--label_model", "l.npz", "--top_k", "3"),
        *("--keep_columns", "json", "label:int64", "--fit", "pad"),
        *("--runner", "FlinkRunner", "--flink_master", "localhost:8081"),
    ]
    options = run_options(*build_parser().parse_known_args(arguments))
    assert options.inputs.patterns == ("a.tar", "b/*.parquet")
    assert options.inputs.keep_columns == ("json", "label:int64")
    assert options.model.model == "m.npz"
    assert options.model.label_model == "l.npz"
    assert options.model.top_k == 3
    assert options.images.fit == "pad"
    assert options.output.folder == "gs://o/t"
    assert options.runner == "FlinkRunner"
    assert options.beam == ("--flink_master", "localhost:8081")


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    lines = {
        line.split()[0]: line.split() for line in printed.splitlines() if line.strip()
    }
    assert lines["google/bit/s-r101x1/1"][1:5] == ["-", "2,048", "42,492,480", "224"]
    seed = "google/bit/m-r101x3/imagenet21k_classification/1"
    assert lines[seed][1:5] == ["21,843", "6,144", "516,015,123", "224"]
    assert sum(name.startswith("google/bit/") for name in lines) == 25
