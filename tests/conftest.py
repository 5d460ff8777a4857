"""What several modules of tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from tests import tables

Verify = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of all formats with bad images among the good."""
    return tables.write_shards(tmp_path_factory.mktemp("source") / "in")


@pytest.fixture(scope="session")
def small_table(small_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run on them; who changes it puts it back."""
    output = tmp_path_factory.mktemp("table") / "out"
    assert tables.run(output, small_source) == 0
    return output


@pytest.fixture
def verify(small_table: Path, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Runs `bitbeam verify` on it; gives the exit code and the lines it prints."""

    def run(*options: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = main(["verify", str(small_table), *options])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, (printed.out if code < 2 else printed.err).splitlines()

    return run
