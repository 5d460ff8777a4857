"""An interrupt of a submission, on any runner."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import submission
from pipeline.remote import RemoteJob

FLINK = PipelineOptions(["--runner=FlinkRunner", "--job_name=mine"])


class _Left(Exception):
    """Instead of the end of this process."""


@pytest.fixture(autouse=True)
def _ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def leave(code: int) -> None:
        raise _Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def _job(name: str, *, interrupts: int = 0) -> RemoteJob:
    for _ in range(interrupts):
        signal.raise_signal(signal.SIGINT)
    return RemoteJob(SimpleNamespace(_job_id=name), FLINK)


def _last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_before_it_there_is_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    submission.prepare()
    with pytest.raises(_Left, match="130"):
        signal.raise_signal(signal.SIGINT)
    assert _last(capsys) == "bitbeam: interrupted; nothing was submitted"


def test_during_it_the_answer_is_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(_Left, match="130"):
        submission.submit(lambda: _job("job-1", interrupts=1), FLINK)
    assert _last(capsys) == (
        "bitbeam: interrupted; job job-1 goes on without this terminal; to end it:"
        " cancel it in the cluster's console"
    )


def test_a_second_one_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(_Left, match="130"):
        submission.submit(lambda: _job("job-1", interrupts=2), FLINK)
    assert _last(capsys) == (
        "bitbeam: left without an answer: there may be a job now; see the cluster's"
        " console"
    )


def test_after_it_the_job_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert submission.submit(lambda: _job("job-1"), FLINK).id == "job-1"
    with pytest.raises(_Left, match="130"):
        signal.raise_signal(signal.SIGINT)
    assert "interrupted; job job-1 goes on" in _last(capsys)


def test_where_only_a_file_is_written_no_job_is_told_of() -> None:
    assert submission.submit(lambda: _job("", interrupts=1), FLINK).id == ""
