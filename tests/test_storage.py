"""Storage: retries, files that never end early, whole local writes."""

import contextlib
import errno
import gzip
import importlib
import io
import itertools
import logging
import os
import random
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError
from apitools.base.py.exceptions import HttpError
from botocore.exceptions import ClientError, EndpointConnectionError
from google.api_core import exceptions as google_errors

from pipeline.cli import main
from tests import outputs, photos, shards
from transforms import local, retry, storage
from transforms.remote import Page, Remote, Stat
from transforms.retry import Retries, ShortReadError, is_transient


def _s3_error(code: str, status: int) -> ClientError:
    metadata = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(metadata, "GetObject")


PASSING = [
    google_errors.TooManyRequests("slow down"),
    google_errors.ServiceUnavailable("busy"),
    google_errors.GatewayTimeout("late"),
    HttpError({"status": "503"}, b"", "http://x"),
    _s3_error("SlowDown", 503),
    _s3_error("InternalError", 500),
    _s3_error("RequestTimeout", 400),
    EndpointConnectionError(endpoint_url="http://x"),
    ConnectionResetError(104, "reset"),
    TimeoutError("timed out"),
    OSError(errno.ESTALE, "stale"),
    OSError(errno.EIO, "I/O"),
    ShortReadError("few"),
    BeamIOError("match", {"a": google_errors.InternalServerError("oops")}),
    BeamIOError("delete", {"a": 503, "b": 429}),
]
LASTING = [
    google_errors.NotFound("none"),
    google_errors.Forbidden("no"),
    google_errors.Unauthorized("who"),
    google_errors.PreconditionFailed("replaced"),
    HttpError({"status": "404"}, b"", "http://x"),
    _s3_error("NoSuchKey", 404),
    _s3_error("AccessDenied", 403),
    FileNotFoundError(2, "none"),
    PermissionError(13, "no"),
    OSError(errno.ENOSPC, "full"),
    OSError(errno.EDQUOT, "full"),
    OSError(errno.EROFS, "read-only"),
    ConnectionError("SSL: CERTIFICATE_VERIFY_FAILED"),
    BeamIOError("match", {"a": google_errors.Forbidden("no")}),
    BeamIOError("delete", {"a": 503, "b": 403}),
    ValueError("a bug"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_stays_is_not_transient(error: Exception) -> None:
    assert not is_transient(error)


@pytest.mark.parametrize("name", sorted(retry.PASSING_TYPES))
def test_the_clients_still_call_their_errors_so(name: str) -> None:
    module, _, kind = name.rpartition(".")
    error = getattr(importlib.import_module(module), kind)
    assert f"{error.__module__}.{error.__qualname__}" == name


class _Failing:
    """Fails a number of times, then returns 7."""

    def __init__(self, times: float, error: Exception) -> None:
        self.calls, self._times, self._error = 0, times, error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return 7


def test_waits_double_up_to_a_bound_at_random() -> None:
    waits: list[list[float]] = []
    for _ in range(200):
        waits.append([])
        retries = Retries(tries=6, first_wait=1, longest_wait=4, sleep=waits[-1].append)
        work = _Failing(5, ConnectionResetError())
        assert retry.call(work, what="x", retries=retries) == 7
        assert work.calls == 6
    for column, bound in zip(zip(*waits, strict=True), (1, 2, 4, 4, 4), strict=True):
        assert bound * 0.8 < max(column) <= bound
        assert min(column) < bound * 0.2


def test_tries_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    work = _Failing(99, google_errors.ServiceUnavailable("busy"))
    with pytest.raises(google_errors.ServiceUnavailable):
        retry.call(work, what="read gs://b/o", retries=Retries(tries=3, first_wait=0))
    assert work.calls == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    line = (
        "read gs://b/o: try 1 of 3 failed, the next in 0.0 s: ServiceUnavailable: 503"
    )
    assert caplog.messages[0].startswith(line)


def test_seconds_are_bounded() -> None:
    work = _Failing(99, ConnectionResetError())
    start = time.monotonic()
    with pytest.raises(ConnectionResetError):
        limit = Retries(tries=99, seconds=0.2, first_wait=0.1, longest_wait=0.1)
        retry.call(work, what="x", retries=limit)
    assert time.monotonic() - start < 2


def test_what_stays_is_raised_at_once() -> None:
    work = _Failing(1, FileNotFoundError(2, "none"))
    with pytest.raises(FileNotFoundError):
        retry.call(work, what="x")
    assert work.calls == 1


# Remote files


class _Store:
    """One object, and a failure or a short answer for some of the reads."""

    errors = (OSError,)

    def __init__(self, data: bytes, faults: Iterator[Exception | int | None]) -> None:
        self.data, self.faults, self.reads = data, faults, 0

    def stat(self, uri: str) -> Stat | None:
        return Stat(uri, len(self.data), 0.0)

    def read(self, found: Stat, begin: int, end: int) -> bytes:
        self.reads += 1
        fault = next(self.faults)
        if isinstance(fault, Exception):
            raise fault
        return self.data[begin : end if fault is None else begin + fault]

    def write(self, uri: str, data: bytes | memoryview) -> None: ...
    def delete(self, uri: str) -> None: ...
    def hint(self, error: Exception) -> str:
        return ""

    def list_page(
        self, prefix: str, *, token: str | None = None, limit: int | None = None
    ) -> Page:
        return Page([], None)


FAST = Retries(tries=5, first_wait=0)
DATA = random.Random(1).randbytes(3_500_000)


def _remote_file(data: bytes, faults: Callable[[], Iterator[Any]]) -> Any:
    return Remote(_Store(data, faults()), retries=FAST).open("gs://b/o")


def _some_faults() -> Iterator[Any]:
    return itertools.cycle([None, ConnectionResetError(104, "reset"), None, 10, 0])


def _no_faults() -> Iterator[Any]:
    return itertools.repeat(None)


@pytest.mark.parametrize("faults", [_no_faults, _some_faults])
def test_a_remote_file_is_like_a_file(faults: Callable[[], Iterator[Any]]) -> None:
    rng = random.Random(2)
    file, expected = _remote_file(DATA, faults), io.BytesIO(DATA)
    for _ in range(300):
        if rng.random() < 0.3:
            offset = rng.randrange(len(DATA) + 10)
            assert file.seek(offset) == expected.seek(offset)
        elif rng.random() < 0.2:
            assert file.seek(-5, 2) == expected.seek(-5, 2)
        size = rng.choice([0, 1, 100, 70_000, 2_000_000])
        assert file.read(size) == expected.read(size)
        assert file.tell() == expected.tell()
    file.seek(0)
    assert file.read() == DATA


def test_missing_bytes_are_an_error_never_the_end() -> None:
    file = _remote_file(DATA, lambda: itertools.repeat(0))
    with pytest.raises(storage.StorageError) as raised:
        file.read(10)
    assert str(raised.value) == (
        "cannot read gs://b/o: ShortReadError: 0 bytes came of the 1,048,576 from 0 on"
    )


def test_a_file_that_jumps_fetches_little() -> None:
    store = _Store(bytes(100 << 20), _no_faults())
    fetched: list[int] = []
    read = store.read
    store.read = lambda found, begin, end: (  # type: ignore[method-assign]
        fetched.append(end - begin) or read(found, begin, end)
    )
    file = Remote(store, retries=FAST).open("gs://b/o")
    for offset in (90 << 20, 10 << 20, 50 << 20):
        file.seek(offset)
        file.read(1000)
    assert sum(fetched) == 3 << 20
    del fetched[:]
    file.seek(0)
    while file.read(1 << 18):
        pass
    assert sum(fetched) == 100 << 20
    assert max(fetched) == 16 << 20
    assert len(fetched) == 10


def test_parquet_tar_and_gzip_read_a_remote_file() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": range(1000)}), sink, row_group_size=100)
    file = _remote_file(sink.getvalue(), _some_faults)
    assert pq.read_table(pa.PythonFile(file, mode="r"))["a"].to_pylist() == [
        *range(1000)
    ]

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        member = tarfile.TarInfo("a")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(DATA))
    with tarfile.open(fileobj=_remote_file(sink.getvalue(), _some_faults)) as tar:
        content = tar.extractfile("a")
        assert content is not None and content.read() == DATA[:100_000]

    packed = gzip.compress(DATA, compresslevel=1)
    with gzip.open(_remote_file(packed, _some_faults)) as unpacked:
        assert unpacked.read() == DATA


# Local files


@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_a_local_read_that_fails_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "a").write_bytes(DATA)
    faults = itertools.cycle([None, OSError(errno.ESTALE, "stale"), None])
    real = getattr(os, call)

    def sometimes(*arguments: Any) -> Any:
        if fault := next(faults):
            raise fault
        return real(*arguments)

    monkeypatch.setattr(os, call, sometimes)
    with storage.open_input(str(tmp_path / "a"), retries=FAST) as file:
        assert file.read(5) == DATA[:5]
        assert file.read() == DATA[5:]
        file.seek(2_000_000)
        assert b"".join(iter(lambda: file.read(300_000), b"")) == DATA[2_000_000:]


def test_a_local_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with storage.open_input(str(tmp_path / "a"), retries=FAST) as file:
        assert file.read(10) == DATA[:10]
        os.truncate(tmp_path / "a", 200_000)
        with pytest.raises(
            ShortReadError, match=r"a ended at byte 200,000 of 3,500,000"
        ):
            while file.read(1000):
                pass


def test_a_local_write_that_fails_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "out/part.parquet")
    tried: list[int] = []

    def full(descriptor: int) -> None:
        tried.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        storage.write_whole(path, b"rows")
    assert len(tried) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_local_write_that_may_pass_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, faults = os.replace, iter([OSError(errno.ESTALE, "stale"), None])

    def sometimes(source: str, target: str) -> None:
        if fault := next(faults):
            raise fault
        replace(source, target)

    monkeypatch.setattr(os, "replace", sometimes)
    storage.write_whole(str(tmp_path / "a"), b"rows", retries=FAST)
    assert outputs.files(tmp_path) == {"a": b"rows"}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from transforms import storage\n"
        "os.fsync = lambda _: os._exit(9)\n"
        "storage.write_whole(sys.argv[1], b'rows')"
    )
    root = Path(__file__).parent.parent
    for name in ("killed.parquet", "other.parquet"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], cwd=root)
    left = sorted(path.name for path in tmp_path.iterdir())
    host = socket.gethostname()
    assert left[0].startswith(f".killed.parquet~{host}~")
    assert left[1].startswith(f".other.parquet~{host}~")

    keep = (
        f".mine~{host}~{os.getpid()}~0123456789ab.partial",
        ".fresh~another-host~99999999~0123456789ab.partial",
        "part.parquet",
        ".someone's.partial",
    )
    for name in (*keep, ".old~another-host~1~0123456789ab.partial"):
        (tmp_path / name).write_bytes(b"")
    day_ago = time.time() - 25 * 3600
    os.utime(tmp_path / ".old~another-host~1~0123456789ab.partial", (day_ago, day_ago))
    assert storage.remove_stale_partials(str(tmp_path)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)
    assert storage.remove_stale_partials(str(tmp_path / "none")) == 0


@contextlib.contextmanager
def _small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    done = subprocess.run(["mount", *options, str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_ends_a_run_in_one_line_and_it_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = photos.save(photos.photograph(64, 64), "JPEG")
    samples = [(f"{number:03d}", {"jpg": picture}) for number in range(60)]
    shards.write_tar(tmp_path / "a.tar", samples)
    output = tmp_path / "disk"
    command = ["run", "--model", "random:R14x1:1000", "--image_size", "64"]
    command += ["--batch_size", "4", "--rows_per_part", "4"]
    command += ["--input", str(tmp_path / "a.tar"), "--output", str(output)]
    with _small_disk(output, "64k"):
        assert main(command) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert "OSError: [Errno 28] No space left on device: '" in last
        assert str(output / "embeddings") in last
        whole = outputs.files(output)
        names = [name for name in whole if name.endswith(".parquet")]
        assert sorted(whole) == sorted(["run.json", *names])
        rows = len(outputs.embeddings(output))
        assert rows == 4 * len(names) > 0
        subprocess.run(["mount", "-o", "remount,size=8m", str(output)], check=True)
        assert main(command) == 0
        assert len(outputs.embeddings(output)) == 60
        assert {name: outputs.files(output)[name] for name in names} == {
            name: whole[name] for name in names
        }


def test_a_small_file_is_read_whole_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with storage.open_input(str(tmp_path / "empty")) as file:
        assert file.read() == b""
    with pytest.raises(FileNotFoundError, match="none"):
        storage.open_input(str(tmp_path / "none"))
    assert local.remove_stale_partials(str(tmp_path)) == 0
