"""Files of this machine: whole writes, and reads that a network mount may interrupt."""

import contextlib
import io
import os
import re
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

from . import retry
from .retry import Retries, ShortReadError
from .strings import Strings

T = TypeVar("T", int, bytes)

_BUFFER = 1 << 14
"""What is larger, as most images, goes from the kernel straight to where it stays."""
_LARGEST_READ = 1 << 30
"""Linux gives 2 GiB at once at most."""

_OLD_SECONDS = 24 * 3600

_HOST = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
_PARTIAL = re.compile(r"\..+~(?P<host>[^~]+)~(?P<pid>\d+)~[0-9a-f]+\.partial")

# Reentrant: an interrupt may find its own thread in the middle of a write.
_lock = threading.RLock()
_partials: set[str] = set()


def open_file(path: str, *, retries: Retries) -> BinaryIO:
    """Opens a file for reading; one that ends before its size is an error."""
    descriptor = retry.call(partial(_open, path), what=f"open {path}", retries=retries)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return open(path, "rb")
    file = _File(path, descriptor, size=status.st_size, retries=retries)
    return io.BufferedReader(file, _BUFFER)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class _File(io.RawIOBase):
    """A regular file of a size that is known; what fails to come is asked for again."""

    def __init__(
        self, path: str, descriptor: int, *, size: int, retries: Retries
    ) -> None:
        super().__init__()
        self._path, self._size, self._retries = path, size, retries
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._position, self._size)[whence]
        if base + offset < 0:
            raise ValueError(f"{self._path}: there is no offset {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: max(0, self._size - self._position)]
        if not len(view):
            return 0
        taken = self._take(lambda: os.preadv(self._descriptor, [view], self._position))
        self._position += taken
        return taken

    def readall(self) -> bytes:
        pieces = []
        while (left := min(self._size - self._position, _LARGEST_READ)) > 0:
            piece = self._take(partial(self._pread, left))
            pieces.append(piece)
            self._position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pread(self, size: int) -> bytes:
        return os.pread(self._descriptor, size, self._position)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def _take(self, work: Callable[[], T]) -> T:
        """Reads something; only where that fails, by way of the slower retries."""
        with contextlib.suppress(OSError):
            if taken := work():
                return taken

        def again() -> T:
            self._reopen()
            if not (taken := work()):
                raise ShortReadError(
                    f"{self._path} ended at byte {self._position:,} of {self._size:,}"
                )
            return taken

        with _naming(self._path):
            return retry.call(again, what=f"read {self._path}", retries=self._retries)

    def _reopen(self) -> None:
        # A stale handle of a network mount never recovers.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._descriptor = _open(self._path)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Has an error of a call that knows no name say the file's."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def write_file(path: str, data: bytes | memoryview) -> None:
    """Writes a file that appears whole or not at all, replacing any other.

    A temporary file beside it, made durable, then renamed. Its name tells who wrote
    it: `.<name>~<host>~<pid>~<random>.partial`.

    Raises:
      OSError: The disk is full, or the place cannot be written. It names the file.
    """
    with _naming(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        sink = _open_partial(path)
        try:
            with sink:
                sink.write(data)
                sink.flush()
                # Without it a power cut may leave the new name on an empty file.
                os.fsync(sink.fileno())
            os.replace(sink.name, path)
        finally:
            with _lock:
                _partials.discard(sink.name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(sink.name)


def _open_partial(path: str) -> io.BufferedWriter:
    folder, name = os.path.split(path)
    mark = f"{_HOST}~{os.getpid()}~{uuid.uuid4().hex[:12]}"
    hidden = os.path.join(folder, f".{name}~{mark}.partial")
    with _lock:
        _partials.add(hidden)
        return open(hidden, "xb")


def abandon_writes() -> None:
    """Removes what unfinished writes left; for a process about to exit at once.

    No write can start after it: the lock stays taken.
    """
    _lock.acquire()
    for hidden in _partials:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)


def walk(folder: str, *, retries: Retries) -> Iterator[str]:
    """Paths of all files below a folder, as the walk comes by them.

    Links to folders are not followed; a folder that is not there has none.

    Raises:
      OSError: A folder cannot be read.
    """
    folders = [folder]
    while folders:
        here = folders.pop()
        inner, names = retry.call(
            partial(_scan, here), what=f"list {here}", retries=retries
        )
        folders += inner
        for name in names:
            yield os.path.join(here, name)


def _scan(folder: str) -> tuple[list[str], Strings]:
    """Paths of the folders in a folder, and names of its files."""
    inner, names = list[str](), Strings()
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                names.append(entry.name)
            elif not entry.is_symlink():
                inner.append(entry.path)
    return inner, names


def stat_file(path: str, *, retries: Retries) -> os.stat_result | None:
    """Looks a file up; None where there is none, as a link may lead nowhere."""
    try:
        return _stat(path)
    except OSError:
        work = partial(_stat, path)
        return retry.call(work, what=f"look up {path}", retries=retries)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def remove_stale_partials(folder: str) -> int:
    """Removes what writes left in a folder whose process was killed.

    That is what a process of this host left that runs no more, and whatever is older
    than a day, such as that of another host.

    Returns:
      How many files were removed.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        # All, before any goes: a folder that changes may not show the rest.
        for entry in [each for each in entries if _is_stale(each)]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
                removed += 1
    return removed


def _is_stale(entry: os.DirEntry[str]) -> bool:
    match = _PARTIAL.fullmatch(entry.name)
    if match is None:
        return False
    if match["host"] == _HOST and not _is_running(int(match["pid"])):
        return True
    try:
        return time.time() - entry.stat().st_mtime > _OLD_SECONDS
    except FileNotFoundError:
        return False


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
