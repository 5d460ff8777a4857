"""Work ahead of the caller, in order and bounded.

A runner calls a bundle's steps depth first on one thread. Reading, decoding, the
model and writing overlap only because each step starts work here and hands on what
is finished, the oldest first.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
Done = TypeVar("Done", covariant=True)


class Pending(Protocol[Done]):
    """Work in flight; a Future, or what is made of several."""

    def done(self) -> bool:
        """Whether `result` gives it at once."""

    def result(self) -> Done:
        """Waits for it; raises what it raised."""

    def cancel(self) -> object:
        """Drops it if it has not begun."""


class InOrder(Generic[T]):
    """Work in flight, given back in the order in which it was added."""

    def __init__(self, depth: int) -> None:
        """Args:
        depth: How much may be in flight before `add` waits for the oldest.
        """
        self._depth = depth
        self._held = 0
        self._pending: deque[tuple[Pending[T], int]] = deque()

    def add(self, pending: Pending[T], *, weight: int = 1) -> Iterator[T]:
        """Takes one more; yields what is finished at the front, waiting if too many.

        Args:
          pending: The work.
          weight: In the unit of the depth. It waits until what is behind the oldest
            is the depth alone.

        Raises:
          BaseException: What the work of a yielded one raised.
        """
        self._pending.append((pending, weight))
        self._held += weight
        while self._pending:
            oldest, weight = self._pending[0]
            if self._held - weight < self._depth and not oldest.done():
                break
            yield self._take()

    def drain(self) -> Iterator[T]:
        """Yields the rest, waiting for each."""
        while self._pending:
            yield self._take()

    def cancel(self) -> None:
        """Drops all that has not begun; for a bundle that has failed."""
        while self._pending:
            self._pending.popleft()[0].cancel()

    def _take(self) -> T:
        pending, weight = self._pending.popleft()
        self._held -= weight
        return pending.result()


class _Buffer(Generic[T]):
    """A queue bounded by weight, closable from both ends."""

    def __init__(self, *, weight: Callable[[T], int], limit: int) -> None:
        self._weight, self._limit = weight, limit
        self._items: deque[T] = deque()
        self._held = 0
        self._ended = self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def fill(self, items: Iterable[T]) -> None:
        """Runs in the background thread: puts all items, then ends."""
        try:
            for item in items:
                if not self._put(item):
                    break
        except BaseException as failure:  # handed to the consumer, which raises it
            self._failure = failure
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        weight = self._weight(item)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not self._items
                    or self._held + weight <= self._limit
                )
            )
            self._items.append(item)
            self._held += weight
            self._changed.notify_all()
            return not self._closed

    def take(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    break
                item = self._items.popleft()
                self._held -= self._weight(item)
                self._changed.notify_all()
            yield item
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def read_ahead(
    items: Iterable[T], *, weight: Callable[[T], int], limit: int
) -> Iterator[T]:
    """Runs an iterable in a background thread and yields its items in order.

    Args:
      items: What to run; closed, where it can be, when the consumer stops early.
      weight: Size of an item, in any unit.
      limit: Sum of weights that may wait. One item may always wait.

    Raises:
      BaseException: What the iterable raised, after the items before it.
    """
    buffer: _Buffer[T] = _Buffer(weight=weight, limit=limit)
    thread = threading.Thread(
        target=buffer.fill, args=(items,), name="read-ahead", daemon=True
    )
    thread.start()
    try:
        yield from buffer.take()
    finally:
        buffer.close()
