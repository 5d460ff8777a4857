"""How a job on Dataflow ends, and how its watcher does."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

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


@contextlib.contextmanager
def _command(service: FakeDataflow, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`bitbeam run` on a service in a process of its own."""
    with fake_dataflow.serving(service) as port:
        endpoint = ("--dataflow_endpoint", f"http://localhost:{port}")
        # In no registry that is asked.
        image = ("--sdk_container_image", "example.com/bitbeam:1")
        command = fake_dataflow.command(*image, *endpoint, *options)
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *command],
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    """The next line of standard error that has a text."""
    assert process.stderr is not None
    return next(line for line in process.stderr if text in line)


GOES_ON = (
    f"bitbeam: interrupted; job {JOB_ID} goes on without this terminal; to end it:"
    f" gcloud dataflow jobs cancel {JOB_ID} --project=my-project --region=us-central1\n"
)


def test_an_interrupt_leaves_the_job_and_says_so(service: FakeDataflow) -> None:
    with _command(service) as process:
        _read_until(process, f"submitted as job {JOB_ID}")
        process.send_signal(signal.SIGINT)
        assert _read_until(process, "interrupted") == GOES_ON
        assert process.wait() == 130
    assert not any(request.startswith("PUT") for request in service.requests)


def _wait_for_submission(service: FakeDataflow) -> None:
    while "POST jobs" not in service.requests:
        time.sleep(0.05)


def test_an_interrupt_of_a_submission_tells_what_came_of_it(
    service: FakeDataflow,
) -> None:
    service.answers.clear()
    with _command(service, "--no_wait") as process:
        _wait_for_submission(service)
        process.send_signal(signal.SIGINT)
        assert _read_until(process, "interrupted") == (
            "bitbeam: interrupted while the job is being submitted; what came of it is"
            " said when the answer is here (once more: leave now)\n"
        )
        service.answers.set()
        assert _read_until(process, "interrupted") == GOES_ON
        assert process.wait() == 130


def test_a_second_interrupt_of_a_submission_tells_where_to_look(
    service: FakeDataflow,
) -> None:
    service.answers.clear()
    with _command(service, "--job_name", "mine") as process:
        _wait_for_submission(service)
        process.send_signal(signal.SIGINT)
        _read_until(process, "interrupted while")
        process.send_signal(signal.SIGINT)
        assert _read_until(process, "left") == (
            "bitbeam: left without an answer: there may be a job mine now; to see:"
            " gcloud dataflow jobs list --project=my-project --region=us-central1"
            " --filter=name=mine\n"
        )
        assert process.wait() == 130
    service.answers.set()


def test_an_interrupt_of_a_submission_that_is_refused_is_a_failure(
    service: FakeDataflow,
) -> None:
    service.answers.clear()
    service.refusal = 403
    with _command(service) as process:
        _wait_for_submission(service)
        process.send_signal(signal.SIGINT)
        _read_until(process, "interrupted while")
        service.answers.set()
        assert "caller lacks dataflow.jobs" in _read_until(process, "failed:")
        assert process.wait() == 1


def test_an_interrupt_before_a_submission_says_that_there_is_no_job(
    service: FakeDataflow,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        image = f"localhost:{silent.getsockname()[1]}/bitbeam:1"
        with _command(service, "--sdk_container_image", image) as process:
            silent.accept()
            process.send_signal(signal.SIGINT)
            assert _read_until(process, "interrupted") == (
                "bitbeam: interrupted; nothing was submitted\n"
            )
            assert process.wait() == 130
    assert service.requests == []


def test_a_dry_run_submits_and_writes_nothing(service: FakeDataflow) -> None:
    before = storage.list_uris(f"{GS}/**")
    assert fake_dataflow.run(service, "--dry_run") == 0
    assert service.requests == []
    assert storage.list_uris(f"{GS}/**") == before
