"""Reads and writes of whole objects: local paths, `gs://` and `s3://`.

Every call is made again where its failure may pass, and fails in one clear line where
it does not: FileNotFoundError, PermissionError or another OSError that names the
object. `gs://` and `s3://` need nothing but credentials; a local path needs nothing.
"""

import contextlib
import importlib
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple, cast

from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.value_provider import RuntimeValueProvider

from . import local, retry
from .local import abandon_writes, remove_stale_partials
from .remote import Remote, Stat, StorageError, Store
from .retry import DEFAULT, Retries
from .strings import Strings
from .threads import in_threads

__all__ = [
    "StorageError",
    "abandon_writes",
    "check_access",
    "exists",
    "is_local",
    "join",
    "list_uris",
    "match",
    "open_input",
    "remove",
    "remove_all",
    "remove_each",
    "remove_stale_partials",
    "write_whole",
]

_AT_ONCE = 16
"""Deletions in flight: a store answers each after tens of milliseconds."""

_QUICK = Retries(tries=3, seconds=5, longest_wait=1, log_level=logging.INFO)


def open_input(uri: str, *, retries: Retries = DEFAULT) -> BinaryIO:
    """Opens an object for reading its bytes as they are, compressed or not.

    The file is seekable, so a format that jumps (Parquet) works on it. It ends where
    the object's size says; bytes that are missing before that are an error.
    """
    if is_local(uri):
        return local.open_file(uri, retries=retries)
    return cast(BinaryIO, _remote(uri, retries=retries).open(uri))


def join(folder: str, *names: str) -> str:
    """Joins path components."""
    if is_local(folder):
        return os.path.join(folder, *names)
    return "/".join([folder.rstrip("/"), *names])


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine."""
    return "://" not in uri


def write_whole(
    uri: str, data: bytes | memoryview, *, retries: Retries = DEFAULT
) -> None:
    """Writes an object that appears whole or not at all, replacing any other.

    On a local disk: a temporary file beside it, made durable, then renamed. On an
    object store: one object, which shows only once its upload is complete.

    Raises:
      OSError: The disk is full, or the place cannot be written.
    """
    if is_local(uri):
        write = partial(local.write_file, uri, data)
        retry.call(write, what=f"write {uri}", retries=retries)
    else:
        _remote(uri, retries=retries).write(uri, data)


def exists(uri: str, *, retries: Retries = DEFAULT) -> bool:
    """Whether there is such an object."""
    if is_local(uri):
        return os.path.exists(uri)
    return _remote(uri, retries=retries).stat(uri) is not None


def remove(uri: str, *, retries: Retries = DEFAULT) -> None:
    """Removes an object where there is one."""
    if not is_local(uri):
        _remote(uri, retries=retries).delete(uri)
        return
    with contextlib.suppress(FileNotFoundError):
        retry.call(lambda: os.unlink(uri), what=f"remove {uri}", retries=retries)


def match(pattern: str, *, retries: Retries = DEFAULT) -> Iterator[FileMetadata]:
    """What a glob matches, as Beam's file systems read it, as the listing comes in.

    Raises:
      FileNotFoundError: There is no such bucket.
    """
    # Python warns of a bracket in brackets, which is how a pattern quotes one.
    wanted = re.compile(FileSystem.translate_pattern(pattern).replace("[[", r"[\["))
    prefix = _fixed_part(pattern)
    alone, folder = prefix == pattern, os.path.dirname(prefix)
    if is_local(pattern):
        for path in [prefix] if alone else local.walk(folder, retries=retries):
            status = wanted.match(path) and local.stat_file(path, retries=retries)
            if status:
                yield FileMetadata(path, status.st_size, status.st_mtime)
        return
    for found in _find(prefix, alone=alone, retries=retries):
        if wanted.match(found.uri):
            yield FileMetadata(found.uri, found.size, found.updated)


def _find(prefix: str, *, alone: bool, retries: Retries) -> Iterator[Stat]:
    remote = _remote(prefix, retries=retries)
    if not alone:
        yield from remote.list(prefix)
    elif found := remote.stat(prefix):
        yield found


def _fixed_part(pattern: str) -> str:
    """What comes before the first sign of a glob."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0]


def list_uris(pattern: str, *, retries: Retries = DEFAULT) -> list[str]:
    """URIs of the objects that a glob matches."""
    return [found.path for found in match(pattern, retries=retries)]


def remove_all(pattern: str, *, retries: Retries = DEFAULT) -> None:
    """Removes the objects that a glob matches."""
    # All are listed first: a folder that changes meanwhile may not show the rest.
    uris = Strings(found.path for found in match(pattern, retries=retries))
    remove_each(uris, retries=retries)


def remove_each(uris: Iterable[str], *, retries: Retries = DEFAULT) -> None:
    """Removes objects where there are such, several at once."""
    removed = in_threads(
        lambda uri: remove(uri, retries=retries), uris, threads=_AT_ONCE, name="remove"
    )
    for _ in removed:
        pass


def check_access(uri: str, *, retries: Retries = _QUICK) -> None:
    """Makes sure, within seconds, that an object store can be used.

    Call it for each input and the output before anything else touches them.

    Args:
      uri: Of an object, a folder or a glob; a local path is not looked at.
      retries: Few and quick, as somebody is waiting.

    Raises:
      OSError: One line: there is no client library, no credentials, no such bucket or
        no permission, or nobody answers.
    """
    if is_local(uri):
        return
    remote = _remote(uri, retries=retries)
    prefix = _fixed_part(uri)
    try:
        remote.list_page(prefix, limit=1)
    except PermissionError:
        # To read one object is allowed to many who may not list.
        if prefix != uri or remote.stat(uri) is None:
            raise


class _Known(NamedTuple):
    """A store, and what it was made for."""

    options: object
    emulator: str | None
    store: Store


_stores: dict[str, _Known] = {}
_making = threading.Lock()

_KINDS = {"gs": ("gcs", "GoogleStorage"), "s3": ("s3", "S3Storage")}


def _remote(uri: str, *, retries: Retries) -> Remote:
    scheme = uri.partition("://")[0]
    # As FileSystems does, which hands them to Beam's own clients only.
    options = FileSystems._pipeline_options or RuntimeValueProvider.runtime_options
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    with _making:
        known = _stores.get(scheme)
        if known is None or known.options is not options or known.emulator != emulator:
            known = _Known(options, emulator, _make_store(scheme, options))
            _stores[scheme] = known
    return Remote(known.store, retries=retries)


def _make_store(scheme: str, options: Any) -> Store:
    if scheme not in _KINDS:
        raise StorageError(
            f"{scheme}:// is not known: only local paths, gs:// and s3://"
        )
    module, name = _KINDS[scheme]
    try:
        # Google's client alone takes a second to import.
        kind = getattr(importlib.import_module(f".{module}", __package__), name)
        store: Store = kind(options or {})
    except ImportError as error:
        raise StorageError(
            f"s3:// needs boto3: pip install 'bitbeam[aws]' ({error})"
        ) from error
    return store
