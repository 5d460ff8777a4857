"""Reads and writes of whole objects through Beam's FileSystems.

`gs://` and `s3://` need nothing but credentials; a local path needs nothing.
"""

import os
import threading
import uuid
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_PARTIAL = ".partial"

# Reentrant: an interrupt may find its own thread in the middle of a write.
_lock = threading.RLock()
_partials: set[str] = set()


def open_input(uri: str) -> BinaryIO:
    """Opens an object for reading its bytes as they are, compressed or not.

    The file is seekable, so a format that jumps (Parquet) works on it.
    """
    return FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)


def join(folder: str, *names: str) -> str:
    """Joins path components as the folder's file system does."""
    return FileSystems.join(folder, *names)


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return "://" not in uri


def write_whole(uri: str, data: bytes | memoryview) -> None:
    """Writes an object that appears whole or not at all, replacing any other.

    On a local disk: a temporary file beside it, made durable, then renamed. On an
    object store: one object, which shows only once its upload is complete.

    Raises:
      OSError: The disk is full, or the place cannot be written.
    """
    if is_local(uri):
        _replace_local(uri, data)
        return
    with FileSystems.create(
        uri, compression_type=CompressionTypes.UNCOMPRESSED
    ) as sink:
        sink.write(data)


def _replace_local(path: str, data: bytes | memoryview) -> None:
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.{uuid.uuid4().hex}{_PARTIAL}")
    os.makedirs(folder, exist_ok=True)
    with _lock:
        sink = open(partial, "xb")
        _partials.add(partial)
    try:
        with sink:
            sink.write(data)
            sink.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(sink.fileno())
        os.replace(partial, path)
    finally:
        with _lock:
            _partials.discard(partial)
        if os.path.exists(partial):
            os.unlink(partial)


def abandon_writes() -> None:
    """Removes what unfinished local writes left; for a process about to exit at once.

    No write can start after it: the lock stays taken.
    """
    _lock.acquire()
    for partial in _partials:
        if os.path.exists(partial):
            os.unlink(partial)


def exists(uri: str) -> bool:
    """Whether there is such an object."""
    return FileSystems.exists(uri)


def remove(uri: str) -> None:
    """Removes an object where there is one."""
    if FileSystems.exists(uri):
        FileSystems.delete([uri])


def list_uris(pattern: str) -> list[str]:
    """URIs of the objects that a glob matches."""
    [match] = FileSystems.match([pattern])
    return [found.path for found in match.metadata_list]


def remove_all(pattern: str) -> None:
    """Removes the objects that a glob matches."""
    uris = list_uris(pattern)
    if uris:
        FileSystems.delete(uris)
