"""Plain image files, a group of which counts as one shard."""

import contextlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from apache_beam.io.filesystem import BeamIOError

from ..block import Fault
from ..file import uri_text
from ..shard import Shard
from .record import Columns, Opener, Record

_THREADS = 8
"""Files in flight, and in memory: an object store answers each after tens of
milliseconds, however small it is."""

_GONE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_GONE_CODES = (401, 403, 404)


def read(shard: Shard, columns: Columns, *, open_input: Opener) -> Iterator[Record]:
    """Reads the files of a group, in order, several at once.

    The key is the file's URI. A file that is gone or may not be read is a row with a
    fault. Any other failure of the storage is raised, at the file's turn.

    Args:
      shard: A group.
      columns: Do not apply: files have none.
      open_input: Opens a file; called in several threads at once.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bitbeam-files")
    try:
        waiting: deque[Future[Record]] = deque()
        for file in shard.files[shard.start_row :]:
            if len(waiting) == _THREADS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(_read_file, file.uri, open_input=open_input))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_file(uri: str, *, open_input: Opener) -> Record:
    try:
        with contextlib.closing(open_input(uri)) as file:
            return Record(uri_text(uri), file.read())
    except Exception as error:
        if not _is_gone(error):
            raise
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        return Record(uri_text(uri), None, fault=Fault("read", "unreadable", message))


def _is_gone(error: object) -> bool:
    """Whether the storage says that there is no such file, or none for us.

    Beam's clients say it in their own ways: an OSError, the HTTP status in `code`, or
    a BeamIOError around either.
    """
    if isinstance(error, _GONE) or getattr(error, "code", None) in _GONE_CODES:
        return True
    if isinstance(error, BeamIOError):
        inner = list((error.exception_details or {}).values())
        return bool(inner) and all(map(_is_gone, inner))
    return False
