"""Objects in a store: retried calls, clear errors, and an object as a file."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from . import retry
from .retry import Retries, ShortReadError

T = TypeVar("T")

_FIRST_FETCH = 1 << 20
_LARGEST_FETCH = 1 << 24
"""Bytes of one request. A file that is read from front to back soon asks for the most;
one that jumps (Parquet) does not fetch what it leaves out."""


class Stat(NamedTuple):
    """An object.

    Attributes:
      uri: With its scheme.
      size: In bytes.
      updated: Seconds since 1970.
      version: Changes with every write.
    """

    uri: str
    size: int
    updated: float
    version: str = ""


class Page(NamedTuple):
    """Some objects of a listing, in order.

    Attributes:
      objects: May be empty, even where others follow.
      token: Asks for the next page; None after the last.
    """

    objects: list[Stat]
    token: str | None


class Store(Protocol):
    """One kind of storage. Each call is made once and raises what its client does.

    Attributes:
      errors: What its client raises.
    """

    errors: tuple[type[Exception], ...]

    def stat(self, uri: str) -> Stat | None:
        """Looks an object up; None where there is none."""

    def read(self, found: Stat, begin: int, end: int) -> bytes:
        """Reads bytes of this version of an object."""

    def write(self, uri: str, data: bytes | memoryview) -> None:
        """Writes an object, visible only when it is whole."""

    def delete(self, uri: str) -> None:
        """Deletes an object; nothing happens where there is none."""

    def list_page(
        self, prefix: str, *, token: str | None = None, limit: int | None = None
    ) -> Page:
        """Lists objects whose URIs begin with a prefix."""

    def hint(self, error: Exception) -> str:
        """What the user can do about an error; empty where it says that itself."""


def split_uri(uri: str) -> tuple[str, str]:
    """The bucket and the name of an object."""
    bucket, _, name = uri.partition("://")[2].partition("/")
    return bucket, name


class StorageError(OSError):
    """Storage failed, or cannot be used. One line, which names the object."""


class Remote:
    """A store whose calls are made again where that may help.

    What fails for good is one line: FileNotFoundError for an object or a bucket that
    is not there, PermissionError where access is denied, else StorageError.
    """

    def __init__(self, store: Store, *, retries: Retries) -> None:
        self._store, self._retries = store, retries

    def stat(self, uri: str) -> Stat | None:
        """Looks an object up; None where there is none."""
        return self._call(lambda: self._store.stat(uri), "look up", uri=uri)

    def open(self, uri: str) -> "RemoteFile":
        """Opens an object for reading.

        Raises:
          FileNotFoundError: There is none.
        """
        found = self.stat(uri)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", uri)

        def fetch(begin: int, end: int) -> bytes:
            read = partial(_read_whole, self._store, found, begin, end)
            return self._call(read, "read", uri=uri)

        return RemoteFile(found, fetch=fetch)

    def write(self, uri: str, data: bytes | memoryview) -> None:
        """Writes an object, all of it again in each try."""
        self._call(lambda: self._store.write(uri, data), "write", uri=uri)

    def delete(self, uri: str) -> None:
        """Deletes an object; nothing happens where there is none."""
        self._call(lambda: self._store.delete(uri), "delete", uri=uri)

    def list(self, prefix: str) -> Iterator[Stat]:
        """Lists what begins with a prefix, page by page, so a retry costs a page."""
        token: str | None = None
        while True:
            page = self.list_page(prefix, token=token)
            yield from page.objects
            token = page.token
            if token is None:
                return

    def list_page(
        self, prefix: str, *, token: str | None = None, limit: int | None = None
    ) -> Page:
        """Lists some of what begins with a prefix."""
        return self._call(
            lambda: self._store.list_page(prefix, token=token, limit=limit),
            "list",
            uri=prefix,
        )

    def _call(self, work: Callable[[], T], what: str, *, uri: str) -> T:
        try:
            return retry.call(work, what=f"{what} {uri}", retries=self._retries)
        except self._store.errors as error:
            hint = self._store.hint(error)
            raise _explain(error, what, uri=uri, hint=hint) from error


def _explain(error: Exception, what: str, *, uri: str, hint: str) -> OSError:
    status, line = retry.status_of(error), retry.one_line(error)
    if hint and not retry.is_transient(error):
        return PermissionError(errno.EACCES, hint, uri)
    if status in (401, 403):
        return PermissionError(errno.EACCES, f"no permission to {what}: {line}", uri)
    if status == 404:
        missing = "object" if what in ("look up", "read") else "bucket"
        return FileNotFoundError(errno.ENOENT, f"there is no such {missing}", uri)
    if status == 412:
        return StorageError(f"{uri} was replaced while it was being read; run again")
    also = f"; also, {hint}" if hint else ""
    return StorageError(f"cannot {what} {uri}: {line}{also}")


def _read_whole(store: Store, found: Stat, begin: int, end: int) -> bytes:
    data = store.read(found, begin, end)
    if len(data) != end - begin:
        raise ShortReadError(
            f"{len(data):,} bytes came of the {end - begin:,} from {begin:,} on"
        )
    return data


class RemoteFile(io.BufferedIOBase):
    """An object to be read.

    The end of the file is where the store said that it is when the file was opened.
    Bytes that are missing before it are an error, never the end.
    """

    def __init__(self, found: Stat, *, fetch: Callable[[int, int], bytes]) -> None:
        """Args:
        found: The object.
        fetch: Reads all bytes from an offset to another, or raises.
        """
        super().__init__()
        self._found, self._fetch = found, fetch
        self._position = 0
        self._chunk, self._chunk_begin = b"", 0
        self._fetch_size = _FIRST_FETCH

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to an offset; nothing is fetched."""
        base = (0, self._position, self._found.size)[whence]
        if base + offset < 0:
            raise ValueError(f"{self._found.uri}: there is no offset {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Reads `size` bytes, or all; fewer only where the file ends."""
        if self.closed:
            raise ValueError(f"{self._found.uri} is closed")
        left = max(0, self._found.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        pieces = []
        while wanted:
            piece = self._piece(wanted)
            pieces.append(piece)
            self._position += len(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """As `read`."""
        return self.read(size)

    def _piece(self, wanted: int) -> bytes:
        """Bytes from the position on, some at least."""
        offset = self._position - self._chunk_begin
        if not 0 <= offset < len(self._chunk):
            self._next_chunk(wanted)
            offset = 0
        if offset == 0 and wanted >= len(self._chunk):
            return self._chunk
        return self._chunk[offset : offset + wanted]

    def _next_chunk(self, wanted: int) -> None:
        goes_on = 0 < len(self._chunk) == self._position - self._chunk_begin
        grown = min(2 * self._fetch_size, _LARGEST_FETCH)
        self._fetch_size = grown if goes_on else _FIRST_FETCH
        begin = self._position
        size = max(self._fetch_size, min(wanted, _LARGEST_FETCH))
        end = min(begin + size, self._found.size)
        # Two chunks at once would be too many for files that are read in parallel.
        self._chunk, self._chunk_begin = b"", begin
        self._chunk = self._fetch(begin, end)
