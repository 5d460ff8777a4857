"""Whether an image is there is asked of its registry, before a job is submitted."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.errors import UsageError
from tests import emulators, fake_dataflow
from tests.fake_dataflow import GS, FakeDataflow
from transforms import storage

gcs, _gcs_port = emulators.gcs, emulators._gcs_port
google_credentials, service = emulators.google_credentials, fake_dataflow.service

OURS = "us-central1-docker.pkg.dev/my-project/bitbeam/bitbeam:0.1.0-gpu"


class FakeRegistry:
    """A registry on loopback.

    Attributes:
      host: Its name and port.
      status: What it answers.
      asked: Methods, paths and headers of requests.
      silent: It does not answer as long as this is not set.
    """

    def __init__(self, host: str, status: int) -> None:
        self.host, self.status = host, status
        self.asked: list[tuple[str, str, Message]] = []
        self.silent = threading.Event()


@contextlib.contextmanager
def _serving(status: int, *, silent: bool = False) -> Iterator[FakeRegistry]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_HEAD(self) -> None:
            fake.asked.append((self.command, self.path, self.headers))
            fake.silent.wait(10)
            self.send_response(fake.status)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fake = FakeRegistry(f"localhost:{server.server_address[1]}", status)
    if not silent:
        fake.silent.set()
    try:
        yield fake
    finally:
        fake.silent.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        (
            OURS,
            ("us-central1-docker.pkg.dev", "my-project/bitbeam/bitbeam", "0.1.0-gpu"),
        ),
        ("localhost:5000/a@sha256:0f", ("localhost:5000", "a", "sha256:0f")),
        ("gcr.io/p/i:t@sha256:0f", ("gcr.io", "p/i", "sha256:0f")),
        ("gcr.io/p/i", ("gcr.io", "p/i", "latest")),
        ("apache/beam_python3.11_sdk:2", ("", "apache/beam_python3.11_sdk", "2")),
        ("ubuntu", ("", "ubuntu", "latest")),
    ],
)
def test_a_name_has_a_registry_a_repository_and_a_tag(
    image: str, parts: tuple[str, str, str]
) -> None:
    assert registry.parse(image) == registry.ImageName(*parts)


def test_googles_registry_is_asked_with_tls() -> None:
    assert registry.parse(OURS).manifest == (
        "https://us-central1-docker.pkg.dev/v2/my-project/bitbeam/bitbeam/manifests"
        "/0.1.0-gpu"
    )


def test_an_image_that_is_there_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    with _serving(200) as fake:
        registry.check(f"{fake.host}/bitbeam:1")
    [(method, path, headers)] = fake.asked
    assert (method, path) == ("HEAD", "/v2/bitbeam/manifests/1")
    assert "application/vnd.oci.image.index.v1+json" in headers["Accept"]
    assert "Authorization" not in headers
    assert caplog.records == []


def test_an_image_that_is_not_there_is_refused() -> None:
    with _serving(404) as fake, pytest.raises(UsageError) as caught:
        registry.check(f"{fake.host}/bitbeam:1")
    assert str(caught.value) == (
        f"--sdk_container_image {fake.host}/bitbeam:1: {fake.host} has no such image;"
        " build and push it, or name another"
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (403, "does not show {} to these credentials (HTTP 403)"),
        (401, "does not show {} to these credentials (HTTP 401)"),
        (503, "whether {} is there is not known: 503"),
    ],
)
def test_what_is_not_known_is_one_line(
    status: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with _serving(status) as fake:
        registry.check(f"{fake.host}/bitbeam:1")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert line.format(f"{fake.host}/bitbeam:1") in record.getMessage()


def test_a_registry_that_is_not_there_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = f"localhost:{emulators.free_port()}/bitbeam:1"
    registry.check(image)
    [record] = caplog.records
    assert (
        record.getMessage() == f"whether {image} is there is not known: ConnectionError"
    )


def test_a_registry_that_does_not_answer_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with _serving(404, silent=True) as fake:
        start = time.monotonic()
        registry.check(f"{fake.host}/bitbeam:1", seconds=0.2)
        assert time.monotonic() - start < 2
    [record] = caplog.records
    assert record.getMessage().endswith("not known: no answer in time")


def test_credentials_are_for_googles_registries(
    google_credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.parse(OURS).is_googles
    assert registry.parse("gcr.io/p/i").is_googles
    assert not registry.parse("pkg.dev.example.com/p/i").is_googles
    assert not registry.parse("notgcr.io/p/i").is_googles
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google_credentials))
    monkeypatch.setattr(registry.ImageName, "is_googles", True)
    with _serving(200) as fake:
        registry.check(f"{fake.host}/bitbeam:1")
    [(_, _, headers)] = fake.asked
    assert headers["Authorization"] == "Bearer t"


def test_other_registries_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[registry.ImageName] = []
    monkeypatch.setattr(registry, "_ask", asked.append)
    registry.check("docker.io/me/bitbeam:1")
    registry.check("me/bitbeam:1")
    assert asked == []


def test_a_job_without_its_image_is_not_submitted(
    service: FakeDataflow, capsys: pytest.CaptureFixture[str]
) -> None:
    before = storage.list_uris(f"{GS}/**")
    with _serving(404) as fake:
        image = f"{fake.host}/bitbeam:1"
        given = ("--sdk_container_image", image, "--no_wait")
        assert fake_dataflow.run(service, *given) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"bitbeam: error: --sdk_container_image {image}: {fake.host} has no such image;"
        " build and push it, or name another"
    )
    assert service.requests == []
    assert storage.list_uris(f"{GS}/**") == before
