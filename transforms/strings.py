"""Many strings in little more than their bytes."""

from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .lazy import Lazy


class Strings(Lazy[str]):
    """A column of strings: their bytes in one piece, and where each ends.

    Grown by `append` until it is first read as Arrow. The bytes are UTF-8 with lone
    surrogates, which stand for what is no UTF-8 in a local name, as three bytes each:
    so they are in the order of the strings.
    """

    __slots__ = ("_bytes", "_ends")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes: bytearray | memoryview = bytearray()
        self._ends: array[int] | memoryview = array("q", [0])
        for text in texts:
            self.append(text)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """The strings as a column; the same if they are one."""
        return texts if isinstance(texts, Strings) else cls(texts)

    @classmethod
    def from_arrow(cls, column: pa.LargeBinaryArray) -> "Strings":
        """What `arrow` gave, or a selection of it; without nulls, nothing is copied."""
        made = cls()
        if len(column):
            _, ends, data = column.buffers()
            made._bytes = memoryview(data or b"")
            rows = slice(column.offset, column.offset + len(column) + 1)
            made._ends = memoryview(ends).cast("q")[rows]
        return made

    def append(self, text: str) -> None:
        """Takes one more."""
        assert isinstance(self._bytes, bytearray) and isinstance(self._ends, array)
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def arrow(self) -> pa.LargeBinaryArray:
        """The column; nothing is copied."""
        buffers = [None, pa.py_buffer(self._ends), pa.py_buffer(self._bytes)]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)

    def part(self, first: int, end: int) -> "Strings":
        """A view of some that follow each other."""
        made = Strings()
        made._bytes = self._bytes
        made._ends = memoryview(self._ends)[first : max(first, end) + 1]
        return made

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        data = self._bytes
        for begin, end in pairwise(self._ends):
            yield str(data[begin:end], "utf-8", "surrogatepass")

    def at(self, row: int) -> str:
        data = self._bytes[self._ends[row] : self._ends[row + 1]]
        return str(data, "utf-8", "surrogatepass")

    def _raw(self, row: int) -> bytes:
        return bytes(self._bytes[self._ends[row] : self._ends[row + 1]])

    @property
    def is_text(self) -> bool:
        """Whether all are UTF-8, so that none has a lone surrogate."""
        try:
            self.arrow().cast(pa.large_string())
        except pa.ArrowInvalid:
            return False
        return True

    def take(self, rows: np.ndarray) -> "Strings":
        """Some of them, in the order of their rows, copied."""
        return Strings.from_arrow(self.arrow().take(pa.array(rows)))

    def order(self) -> np.ndarray | None:
        """Rows in the order of their strings, of equal ones in their own.

        Returns:
          int64; None where the strings are in order as they are.
        """
        column = self.arrow()
        if _all(pc.less_equal(column[:-1], column[1:])):
            return None
        return pc.array_sort_indices(column).to_numpy().astype(np.int64)

    def order_once(self) -> np.ndarray | None:
        """As `order`, but each string once: the first of its rows."""
        column = self.arrow()
        if _all(pc.less(column[:-1], column[1:])):
            return None
        rows = pc.array_sort_indices(column).to_numpy().astype(np.int64)
        ordered = column.take(pa.array(rows))
        is_new = pc.not_equal(ordered[:-1], ordered[1:])
        return rows[np.append(True, is_new.to_numpy(zero_copy_only=False))]

    def once(self) -> "Strings":
        """The strings in order, each once; itself, if it is so."""
        rows = self.order_once()
        return self if rows is None else self.take(rows)

    def place(self, text: str, *, near: int = 0) -> int:
        """The row of the first string that is not before this one, of strings in order.

        Args:
          text: What to look for.
          near: The row where it is likely to be, which is looked at first.
        """
        wanted = text.encode("utf-8", "surrogatepass")
        if (near == 0 or self._raw(near - 1) < wanted) and (
            near == len(self) or self._raw(near) >= wanted
        ):
            return near
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def is_at(self, row: int, text: str) -> bool:
        """Whether a string has this row; a row may be the length."""
        return row < len(self) and self.at(row) == text


def _all(column: pa.BooleanArray) -> bool:
    return len(column) == 0 or pc.all(column).as_py()
