"""Calls that wait for others, such as those to a store: many at once, and bounded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def in_threads(
    work: Callable[[S], T], items: Iterable[S], *, threads: int, name: str
) -> Iterator[T]:
    """Does a work to each item in several threads; yields what it gives, in order.

    Unlike a pool's `map`, it takes an item when a thread is free for it: of a million
    items, and of what they give, there are never more than a few.

    Args:
      work: Safe to be done in several threads at once.
      items: Taken by the caller's thread.
      threads: How many there are, and items that are taken ahead.
      name: What the threads' names begin with.

    Raises:
      BaseException: What the work to an item raised, after what those before it gave;
        no other is begun then.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    begun: deque[Future[T]] = deque()
    try:
        for item in items:
            if len(begun) == threads:
                yield begun.popleft().result()
            begun.append(pool.submit(work, item))
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
