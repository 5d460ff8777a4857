"""Sequences whose elements are made as they are asked for."""

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T]):
    """Reads as a tuple does, and equals one, but keeps no element.

    A million small objects are a hundred megabytes; the columns that they are made of
    are a few. What derives from it says `__len__` and how to make one element. It is
    pickled as the tuple, so that a part of it does not take the whole along.
    """

    __slots__ = ()

    @abstractmethod
    def at(self, row: int) -> T:
        """Makes an element; the row must be from 0 on, and below the length."""

    def _cut(self, rows: range) -> Sequence[T]:
        return tuple(map(self.at, rows))

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        rows = range(len(self))
        if isinstance(index, slice):
            return self._cut(rows[index])
        return self.at(rows[index])

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,}>"
