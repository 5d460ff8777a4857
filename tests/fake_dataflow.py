"""A Dataflow service on loopback: takes jobs, tells of them, and really runs them.

It speaks the REST form of Dataflow's API, to Beam's own client. What it runs is the
staged pipeline, in a worker process, as the service would.
"""

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow import dataflow_runner
from google.cloud import storage as google_storage

from pipeline import launch, remote
from pipeline.cli import main
from tests import tables
from tests.emulators import BUCKET
from transforms import storage

JOB_ID = "2026-11-21_12_00_00-1234567890"
_WORKER = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
_TIME = "2026-11-21T12:00:00.000Z"

GS = f"gs://{BUCKET}"
PLACES = (
    *("--runner", "DataflowRunner", "--project", "my-project"),
    *("--region", "us-central1", "--temp_location", f"{GS}/tmp"),
)
L4 = ("--gpu", "nvidia-l4")

Metrics = dict[str, int]
Work = Callable[["FakeDataflow"], None]


def replay(service: "FakeDataflow", *, state: str = "JOB_STATE_DONE") -> None:
    """Runs the staged pipeline in a worker process, as Dataflow would.

    Args:
      service: Has the job.
      state: Of the job at its end.
    """
    pipeline = beam_runner_api_pb2.Pipeline.FromString(service.staged_pipeline())
    for environment in pipeline.components.environments.values():
        environment.urn = python_urns.SUBPROCESS_SDK
        environment.payload = _WORKER.encode()
    runner = launch.local_runner(PipelineOptions([]))
    result = runner.run_via_runner_api(pipeline, PipelineOptions([]))
    result.wait_until_finish()
    service.metrics = remote.sums(result, done=True)
    service.state = state


class FakeDataflow:
    """The service, which holds one job.

    Attributes:
      job: As it was submitted, JSON; None: none was.
      state: Of the job.
      metrics: Sums of bitbeam's counters that it tells.
      messages: Errors that it tells of the job.
      refusal: An HTTP status for whoever submits; None: welcome.
      after_submission: What the job's state is then.
      work: What is done with a job, in the background; None: nothing.
      answers: Submissions are answered while it is set.
      requests: What was asked for: methods and last parts of paths.
    """

    def __init__(self, work: Work | None) -> None:
        self.job: dict[str, Any] | None = None
        self.state = "JOB_STATE_PENDING"
        self.metrics: Metrics = {}
        self.messages: list[str] = []
        self.refusal: int | None = None
        self.after_submission = "JOB_STATE_RUNNING"
        self.requests: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.work = work

    @property
    def environment(self) -> dict[str, Any]:
        """Of the job."""
        assert self.job is not None
        return self.job["environment"]

    @property
    def pool(self) -> dict[str, Any]:
        """The job's one worker pool."""
        [pool] = self.environment["workerPools"]
        return pool

    def staged_pipeline(self) -> bytes:
        """What the job is to run."""
        url = self.environment["sdkPipelineOptions"]["options"]["pipelineUrl"]
        with FileSystems.open(url) as source:
            return source.read()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """Status and JSON for a request."""
        path = path.split("?")[0]
        self.requests.append(f"{method} {path.rsplit('/', 1)[-1]}")
        if method == "POST":
            self.answers.wait(60)
        if method == "POST" and self.refusal:
            error = {"code": self.refusal, "message": "caller lacks dataflow.jobs"}
            return self.refusal, {"error": error}
        if method == "POST":
            self.job = json.loads(body)
            self.state = self.after_submission
            accepted = {**self.job, "id": JOB_ID, "currentState": "JOB_STATE_PENDING"}
            threading.Thread(target=self._do, daemon=True).start()
            return 200, accepted
        if path.endswith("/metrics"):
            return 200, {"metricTime": _TIME, "metrics": list(self._metric_updates())}
        if path.endswith("/messages"):
            return 200, {"jobMessages": [_message(text) for text in self.messages]}
        return 200, {**(self.job or {}), "id": JOB_ID, "currentState": self.state}

    def _do(self) -> None:
        try:
            if self.work:
                self.work(self)
        except Exception as error:
            self.messages.append(f"Traceback\n{type(error).__name__}: {error}")
            self.state = "JOB_STATE_FAILED"
            raise

    def _metric_updates(self) -> Iterator[dict[str, object]]:
        """Each counter in both of its forms, as the service has them."""
        for name, value in self.metrics.items():
            for tentative in ({}, {"tentative": "true"}):
                context = {"namespace": "bitbeam", "step": "s1", **tentative}
                named = {"origin": "user", "name": name, "context": context}
                yield {"name": named, "scalar": value, "updateTime": _TIME}


def _message(text: str) -> dict[str, str]:
    importance = "JOB_MESSAGE_ERROR"
    return {"time": _TIME, "messageText": text, "messageImportance": importance}


def _handler(service: FakeDataflow) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = service.answer(self.command, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _answer

    return Handler


@contextlib.contextmanager
def serving(service: FakeDataflow, *, port: int = 0) -> Iterator[int]:
    """Serves it; gives the port.

    Raises:
      OSError: The port cannot be had.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(service))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Hurried:
    """The time module for Beam's client, which sleeps seconds between two looks."""

    time = staticmethod(time.time)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / 100)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Makes all that polls do so a hundred times as often; asks no registry."""
    patch.setattr("pipeline.registry._GOOGLES", re.compile("$^"))
    patch.setattr(dataflow_runner, "time", _Hurried)
    patch.setattr("pipeline.remote._POLL_SECONDS", 0.3)
    patch.setattr("pipeline.progress._LOG_SECONDS", 0.5)


@pytest.fixture
def service(
    gcs: google_storage.Bucket, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeDataflow:
    """A service that takes jobs and does nothing; the input is there."""
    hurry(monkeypatch)
    upload(small_source)
    return FakeDataflow(None)


def run(service: FakeDataflow, *options: str) -> int:
    """`bitbeam run` on a service; gives the exit code."""
    with serving(service) as port:
        endpoint = ("--dataflow_endpoint", f"http://localhost:{port}")
        return main(command(*endpoint, *options))


def command(*options: str) -> tuple[str, ...]:
    """`bitbeam run` on Dataflow, without the program's name."""
    places = ("--input", f"{GS}/in/b.parquet", "--output", f"{GS}/out")
    return ("run", *places, *tables.RUN, *PLACES, *options)


def upload(folder: Path) -> None:
    """A Parquet shard of twelve rows, two of them bad."""
    storage.write_whole(f"{GS}/in/b.parquet", (folder / "b.parquet").read_bytes())


def table() -> dict[str, bytes]:
    """Content of the output's parts, by name."""
    return {
        f"{part}/{uri.rsplit('/', 1)[-1]}": storage.open_input(uri).read()
        for part in ("embeddings", "errors")
        for uri in storage.list_uris(f"{GS}/out/{part}/*.parquet")
    }
