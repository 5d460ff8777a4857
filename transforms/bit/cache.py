"""Local copies of remote models: made once, whole or not at all, by one process."""

import contextlib
import glob
import hashlib
import http.client
import logging
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .spec import ModelError

_log = logging.getLogger(__name__)

ARCHIVES = (".tar.gz", ".tgz", ".tar")
_CHUNK = 1 << 22
_MAX_INFLATION = 8
_SECONDS_BETWEEN_LINES = 10.0

Progress = Callable[[str, int, int], None]
"""Told the URI, the bytes copied so far, and the bytes there are."""


@dataclass(frozen=True)
class Remote:
    """Storage that the package itself cannot read, such as `gs://` and `s3://`.

    Attributes:
      sizes: Given a URI, the size in bytes of every object at it or below it, by
        URI; empty where there is none.
      open: Opens an object for reading.
    """

    sizes: Callable[[str], Mapping[str, int]]
    open: Callable[[str], BinaryIO]


def is_remote(name: str) -> bool:
    """Whether a name is a URI, not a path."""
    return "://" in name


def cache_folder() -> Path:
    """Where copies lie: `BITBEAM_CACHE`, else `~/.cache/bitbeam`."""
    return Path(os.environ.get("BITBEAM_CACHE") or "~/.cache/bitbeam").expanduser()


def fetch(
    uri: str, *, remote: Remote | None = None, progress: Progress | None = None
) -> str:
    """Copies a file or a folder to the cache, unless it is there.

    A copy is kept by URI and sizes, so that one that changed is copied anew. Any
    number of processes may ask at once: one copies and the others wait. Where the
    storage cannot be reached, the latest copy will do.

    Args:
      uri: `https://`, or what `remote` can read.
      remote: Reads the rest.
      progress: Told of the copying; None: a line in the log every ten seconds.

    Returns:
      Path of the copy.

    Raises:
      ModelError: It is not there, cannot be read, or came short.
    """
    uri = uri.rstrip("/")
    storage = _HTTP if uri.startswith(("https://", "http://")) else remote
    if storage is None:
        raise ModelError(f"model {uri} is remote and no storage was given to read it")
    try:
        with _named_errors(uri):
            sizes = storage.sizes(uri)
    except ModelError as error:
        path = _latest(uri)
        if path is None:
            raise
        _log.warning("%s; its copy %s is taken", error, path)
        return path
    if not sizes:
        raise ModelError(f"model {uri} does not exist: check the name")
    with _entry(uri, repr(sorted(sizes.items()))) as (path, partial):
        if partial:
            report = progress or _Log()
            with _named_errors(uri):
                _copy(uri, partial, storage=storage, sizes=sizes, progress=report)
    return path


def unpack(archive: str) -> str:
    """Unpacks a local archive to the cache, unless it is there.

    Returns:
      Path of the folder.

    Raises:
      ModelError: It cannot be read, or it is no archive of a model.
    """
    try:
        state = os.stat(archive)
        version = f"{state.st_size} {state.st_mtime_ns}"
        with _entry(os.path.abspath(archive), version) as (path, partial):
            if partial:
                _extract(archive, partial, limit=_MAX_INFLATION * state.st_size)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ModelError(f"archive {archive} cannot be unpacked: {error}") from None
    return path


@contextlib.contextmanager
def _entry(name: str, version: str) -> Iterator[tuple[str, str | None]]:
    """Yields the path of an entry, and a path to make it at if it is missing.

    What is made appears under its own name once the block ends, not if it raises.
    """
    from filelock import FileLock

    path = _folder(name) / _digest(version) / _base(name)
    if path.exists():
        yield str(path), None
        return
    folder = path.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if path.exists():
            yield str(path), None
            return
        scratch = tempfile.mkdtemp(prefix=".partial.", dir=folder.parent)
        try:
            yield str(path), os.path.join(scratch, path.name)
            os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _latest(name: str) -> str | None:
    """The newest entry of any version."""
    found = _folder(name).glob(f"[!.]*/{glob.escape(_base(name))}")
    newest = max(found, key=lambda path: path.parent.stat().st_mtime, default=None)
    return str(newest) if newest else None


def _folder(name: str) -> Path:
    return cache_folder() / "models" / _digest(name)


def _base(name: str) -> str:
    # Models are told by their names' endings, so the copy keeps its name.
    return name.rsplit("/", 1)[-1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _copy(
    uri: str,
    target: str,
    *,
    storage: Remote,
    sizes: Mapping[str, int],
    progress: Progress,
) -> None:
    total, done = sum(sizes.values()), 0
    for one, size in sizes.items():
        inner = one.removeprefix(uri).lstrip("/")
        path = Path(target, *inner.split("/")) if inner else Path(target)
        if ".." in path.parts:
            raise ModelError(f"model {uri} has a file {one}, outside of it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(one) as source, path.open("wb") as sink:
            while piece := source.read(_CHUNK):
                done += sink.write(piece)
                progress(uri, done, total)
        if path.stat().st_size != size:
            raise ModelError(
                f"file {one} came as {path.stat().st_size:,} bytes of {size:,}: "
                "try again"
            )


def _extract(archive: str, target: str, *, limit: int) -> None:
    with tarfile.open(archive) as tar:
        declared = 0
        for member in tar:
            declared += member.size
            if declared > limit:
                raise ModelError(
                    f"archive {archive} unpacks to over {_MAX_INFLATION} times its "
                    "size: it is no archive of a model"
                )
        # Its filter refuses paths and links that lead out of the folder.
        tar.extractall(target, filter="data")


@contextlib.contextmanager
def _named_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        text = " ".join(str(error).split())
        raise ModelError(f"model {uri} cannot be read: {text}") from None


class _Log:
    """Reports the copying by lines in the log."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self, uri: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = done / max(now - self._start, 1e-3)
        _log.info(
            "copying %s: %.0f of %.0f MB, %.0f MB/s",
            *(uri, done / 1e6, total / 1e6, rate / 1e6),
        )


def _http_sizes(url: str) -> Mapping[str, int]:
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request) as response:
            return {url: int(response.headers["Content-Length"])}
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        raise


def _http_open(url: str) -> BinaryIO:
    stream: BinaryIO = urllib.request.urlopen(url)
    return stream


_HTTP = Remote(_http_sizes, _http_open)
