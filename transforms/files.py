"""Many stored objects in little more than the bytes of their names."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .file import File, version_text
from .lazy import Lazy
from .strings import Strings


class Files(Lazy[File]):
    """A table of files: columns of URIs, sizes, times. A File is made when asked for.

    Grown by `append` until it is first cut; what is cut out is a view of the same
    columns. A million files are their URIs and 24 bytes each.

    Attributes:
      uris: Of the files.
    """

    __slots__ = ("_sizes", "_times", "uris")

    def __init__(self, files: Iterable[File] = ()) -> None:
        self.uris = Strings()
        self._sizes: array[int] | memoryview = array("q")
        self._times: array[float] | memoryview = array("d")
        for file in files:
            self.append(file.uri, file.size, file.updated)

    @classmethod
    def of(cls, files: Iterable[File]) -> "Files":
        """The files as a table; the same if they are one."""
        return files if isinstance(files, Files) else cls(files)

    def append(self, uri: str, size: int, updated: float) -> None:
        """Takes one more."""
        assert isinstance(self._sizes, array) and isinstance(self._times, array)
        self.uris.append(uri)
        self._sizes.append(size)
        self._times.append(updated)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[File]:
        return map(File, self.uris, self._sizes, self._times)

    def facts(self) -> Iterator[tuple[str, int, float]]:
        """URI, size and time of each; no File is made."""
        return zip(self.uris, self._sizes, self._times, strict=True)

    @property
    def size(self) -> int:
        """Bytes of all."""
        return int(np.asarray(self._sizes).sum())

    def version(self, row: int) -> str:
        """The version of one; no File is made."""
        return version_text(self._sizes[row], self._times[row])

    def at(self, row: int) -> File:
        return File(self.uris.at(row), self._sizes[row], self._times[row])

    def _cut(self, rows: range) -> Sequence[File]:
        if rows.step != 1:
            return super()._cut(rows)
        return self.part(rows.start, rows.stop)

    def part(self, first: int, end: int) -> "Files":
        """A view of some that follow each other."""
        made = Files()
        made.uris = self.uris.part(first, end)
        made._sizes = memoryview(self._sizes)[first:end]
        made._times = memoryview(self._times)[first:end]
        return made

    def take(self, rows: np.ndarray) -> "Files":
        """Some of them, in the order of their rows, copied."""
        made = Files()
        made.uris = self.uris.take(rows)
        made._sizes = memoryview(np.asarray(self._sizes)[rows])
        made._times = memoryview(np.asarray(self._times)[rows])
        return made

    def once(self) -> "Files":
        """The files in the order of their URIs, those of one URI once, the first.

        As a store lists them, they are so: then it is this table itself.
        """
        rows = self.uris.order_once()
        return self if rows is None else self.take(rows)


def facts(files: Sequence[File]) -> Iterable[tuple[str, int, float]]:
    """URI, size and time of each."""
    if isinstance(files, Files):
        return files.facts()
    return [(file.uri, file.size, file.updated) for file in files]
