"""How a job on Dataflow ends, and how its watcher does."""

import os
import signal
import subprocess
import sys

import pytest

from tests import emulators, fake_dataflow
from tests.fake_dataflow import GS, JOB_ID, FakeDataflow
from transforms import storage

gcs, _gcs_port = emulators.gcs, emulators._gcs_port
google_credentials, service = emulators.google_credentials, fake_dataflow.service


def _last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Of standard error; a failure prints no second line, and no result."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    lines = printed.err.splitlines()
    assert sum("failed" in line for line in lines) == 1
    return lines[-1]


def test_a_job_that_fails_is_one_line(
    service: FakeDataflow,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.after_submission = "JOB_STATE_FAILED"
    service.messages = [
        "Traceback (most recent call last):\n  x\nValueError: no weight"
    ]
    assert fake_dataflow.run(service) == 1
    assert _last_line(capsys).startswith(
        f"bitbeam: failed: job {JOB_ID} ended as FAILED: ValueError: no weight; see"
        " https://console.cloud.google.com/dataflow/jobs/us-central1/"
    )
    # Beam's client would log the worker's trace, and more.
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_a_job_that_finds_too_many_bad_images_is_exit_code_3(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    service.after_submission = "JOB_STATE_FAILED"
    service.messages = ["x\ntransforms.streak.TooManyBadError: 1,990 of 2,000 are bad"]
    assert fake_dataflow.run(service) == 3


def test_a_job_that_somebody_cancels_is_one_line(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    service.after_submission = "JOB_STATE_CANCELLED"
    assert fake_dataflow.run(service) == 1
    assert _last_line(capsys) == (
        f"bitbeam: failed: job {JOB_ID} was cancelled; what is written is whole, and"
        " the same command goes on from there"
    )


def test_the_same_command_goes_on_where_a_cancelled_job_stopped(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    before: dict[str, bytes] = {}

    def cancelled_half_way(service: FakeDataflow) -> None:
        fake_dataflow.replay(service, state="JOB_STATE_CANCELLING")
        before.update(fake_dataflow.table())
        last = max(name for name in before if name.startswith("embeddings/"))
        storage.remove(f"{GS}/out/{last}")
        storage.remove(f"{GS}/out/summary.json")
        service.state = "JOB_STATE_CANCELLED"

    service.work = cancelled_half_way
    assert fake_dataflow.run(service) == 1
    service.work = fake_dataflow.replay
    assert fake_dataflow.run(service) == 0
    printed = capsys.readouterr()
    assert "1 shards in, 1 with work left; 1 parts are done" in printed.err
    assert printed.out.startswith("bitbeam: done: 4 images in ")
    assert "; the table has 12: 10 good, 2 bad " in printed.out
    assert fake_dataflow.table() == before


def test_a_job_that_is_refused_is_one_line(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refusal = 403
    assert fake_dataflow.run(service) == 1
    assert "caller lacks dataflow.jobs" in _last_line(capsys)


def test_an_interrupt_leaves_the_job_and_says_so(service: FakeDataflow) -> None:
    with fake_dataflow.serving(service) as port:
        endpoint = ("--dataflow_endpoint", f"http://localhost:{port}")
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *fake_dataflow.command(*endpoint)],
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert process.stderr is not None
        for line in process.stderr:
            if f"submitted as job {JOB_ID}" in line:
                break
        process.send_signal(signal.SIGINT)
        [_, line] = process.stderr.read().split("\n")[-3:-1]
        assert process.wait() == 130
    assert line == (
        f"bitbeam: interrupted; job {JOB_ID} goes on without this terminal; to end it:"
        f" gcloud dataflow jobs cancel {JOB_ID} --project=my-project"
        " --region=us-central1"
    )
    assert not any(request.startswith("PUT") for request in service.requests)


def test_a_dry_run_submits_and_writes_nothing(service: FakeDataflow) -> None:
    before = storage.list_uris(f"{GS}/**")
    assert fake_dataflow.run(service, "--dry_run") == 0
    assert service.requests == []
    assert storage.list_uris(f"{GS}/**") == before
