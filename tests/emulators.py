"""Object stores on loopback with the real clients in front, and a faulty proxy."""

import contextlib
import http.client
import json
import os
import random
import re
import socket
import struct
import threading
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_storage_emulator.server import create_server
from google.cloud import storage as google_storage
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

BUCKET = "bucket"
FAULTS = ("429", "500", "503", "reset", "hang", "short", "cut")
_OF_DOWNLOADS = ("short", "cut")
_HANG_SECONDS = 3.0
_PAGE = 1000


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Tokens(BaseHTTPRequestHandler):
    """Gives everybody an access token."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600}
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(token).encode())


@pytest.fixture(scope="session")
def google_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A key file of a service account, and who gives tokens for it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path_factory.mktemp("credentials") / "key.json"
    port = server.server_address[1]
    yield _write_credentials(path, token_uri=f"http://127.0.0.1:{port}/token")
    server.shutdown()
    server.server_close()


def _write_credentials(path: Path, *, token_uri: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    content = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "0",
        "private_key": text.decode(),
        "client_email": "tests@project.iam.gserviceaccount.com",
        "client_id": "0",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def _gcs_port() -> Iterator[int]:
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True)
    # It would save a list of all objects at every write, also in memory.
    server._storage._write_config_to_file = lambda: None
    server.start()
    yield port
    server.stop()


@pytest.fixture
def gcs(
    _gcs_port: int, google_credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> google_storage.Bucket:
    """An empty bucket of an emulator that every client of this process talks to."""
    return use_gcs(_gcs_port, google_credentials, monkeypatch)


def use_gcs(
    port: int, credentials: Path, patch: pytest.MonkeyPatch
) -> google_storage.Bucket:
    """Empties the emulator and makes every client of this process talk to it."""
    patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    urllib.request.urlopen(f"http://127.0.0.1:{port}/wipe").close()
    client = google_storage.Client.create_anonymous_client()
    client.project = "project"
    return client.create_bucket(BUCKET)


class S3(dict[str, str]):
    """Beam's options for an S3 emulator, and a client of it."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            s3_endpoint_url=endpoint,
            s3_access_key_id="id",
            s3_secret_access_key="secret",
            s3_region_name="us-east-1",
        )
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options on a command line."""
        return tuple(f"--{name}={value}" for name, value in self.items())

    def put_many(self, names: Iterable[str]) -> None:
        """Writes small objects past the client and the server."""
        [store] = get_backend("s3")["123456789012"].values()
        for name in names:
            store.put_object(BUCKET, name, b"x")


@pytest.fixture(scope="session")
def _s3_port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3(_s3_port: int) -> S3:
    """An S3 emulator with an empty bucket."""
    endpoint = f"http://127.0.0.1:{_s3_port}"
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    made = S3(endpoint)
    made.client.create_bucket(Bucket=BUCKET)
    return made


def put_many_gcs(names: Iterable[str]) -> None:
    """Writes small objects over one connection, faster than the client does."""
    endpoint = os.environ["STORAGE_EMULATOR_HOST"].removeprefix("http://")
    connection = http.client.HTTPConnection(endpoint)
    path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name="
    for name in names:
        connection.request("POST", path + name, b"x")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


class FaultyProxy:
    """An HTTP proxy that fails some of the requests, in several ways in turn.

    Attributes:
      url: Where it listens.
      requests: What was asked for: methods and paths.
      faults: How many it failed, by the way.
    """

    def __init__(
        self,
        target: str,
        *,
        rate: float,
        ways: tuple[str, ...] = FAULTS,
        seed: int = 1,
        most: int | None = None,
    ) -> None:
        """Args:
        target: Host and port of the server behind it.
        rate: Share of the requests that fail.
        ways: Of FAULTS, or any HTTP status.
        seed: Of the choice of requests.
        most: Faults in all; None: no bound.
        """
        self.target = target
        self.requests: list[str] = []
        self.faults: Counter[str] = Counter()
        self._rate, self._most = rate, most
        # Of each kind its own, as nobody knows how the kinds will alternate. There are
        # few downloads: this seed fails early ones.
        self._random = {False: random.Random(seed), True: random.Random(7)}
        self._due = list(ways)
        self._lock, self._stopped = threading.Lock(), threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def choose(self, request: str) -> str | None:
        """How the next request fails; None if it does not."""
        download = request.startswith("GET") and "alt=media" in request
        with self._lock:
            self.requests.append(request)
            due = self._random[download].random() < self._rate
            if not due or self.faults.total() == self._most:
                return None
            ways = [each for each in self._due if download or each not in _OF_DOWNLOADS]
            # First what only downloads suffer, of which there are fewer.
            ways.sort(key=lambda way: way not in _OF_DOWNLOADS or self.faults[way] > 0)
            if not ways:
                return None
            self._due.remove(ways[0])
            self._due.append(ways[0])
            self.faults[ways[0]] += 1
            return ways[0]

    def hang(self) -> None:
        """Waits for longer than a client does."""
        self._stopped.wait(_HANG_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Google's client looks a bucket up in the background, for traces that it may
        # make, and goes on without an answer: not a request of ours.
        is_trace = self.command == "GET" and re.search(r"/b/[^/]+\?", self.path)
        way = None if is_trace else self.proxy.choose(f"{self.command} {self.path}")
        if way and way.isdigit():
            self._answer(int(way), {}, b"{}")
        elif way == "reset":
            self._reset()
        elif way == "hang":
            self.proxy.hang()
            self.close_connection = True
        else:
            self._pass_on(body, way=way)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _forward

    def _pass_on(self, body: bytes, *, way: str | None) -> None:
        behind = http.client.HTTPConnection(self.proxy.target, timeout=30)
        headers = {name: value for name, value in self.headers.items()}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        data = answer.read()
        behind.close()
        kept = {
            name: self._through(value)
            for name, value in answer.getheaders()
            if name.lower() not in ("content-length", "transfer-encoding", "connection")
        }
        if self.command == "GET" and "/o?" in self.path and answer.status == 200:
            data = _one_page(data, self.path)
        if way == "short":
            data = data[: len(data) // 2]
        self._answer(
            answer.status, kept, data, send=len(data) // 2 if way == "cut" else None
        )

    def _through(self, value: str) -> str:
        """Where an upload goes on is at the proxy too."""
        return value.replace(f"http://{self.proxy.target}", self.proxy.url)

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        *,
        send: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:send])
        if send is not None:
            self.close_connection = True

    def _reset(self) -> None:
        # Closes with RST: whatever is under way is dropped.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True


def _one_page(data: bytes, path: str) -> bytes:
    """A page of a listing: the emulator sends all at once, the service 1,000."""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    listing = json.loads(data)
    begin = int(query.get("pageToken", ["0"])[0])
    end = begin + int(query.get("maxResults", [str(_PAGE)])[0])
    items = listing.get("items", [])
    if end < len(items):
        listing["nextPageToken"] = str(end)
    return json.dumps({**listing, "items": items[begin:end]}).encode()


@contextlib.contextmanager
def faulty(monkeypatch: pytest.MonkeyPatch, **faults: Any) -> Iterator[FaultyProxy]:
    """Puts a faulty proxy in front of the GCS emulator of the fixture `gcs`."""
    target = os.environ["STORAGE_EMULATOR_HOST"].removeprefix("http://")
    with FaultyProxy(target, **faults) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{target}")
