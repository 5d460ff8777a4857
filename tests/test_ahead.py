"""Work ahead stays in order, bounded, and does not swallow what goes wrong."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from transforms.ahead import InOrder, read_ahead


def _weight(item: int) -> int:
    return 1


def test_results_leave_in_the_order_of_the_work() -> None:
    first: Future[str] = Future()
    second: Future[str] = Future()
    in_order: InOrder[str] = InOrder(depth=2)
    assert list(in_order.add(first)) == []
    second.set_result("second")
    assert list(in_order.add(second)) == []
    first.set_result("first")
    assert list(in_order.drain()) == ["first", "second"]


def test_no_more_than_depth_are_in_flight() -> None:
    in_order: InOrder[int] = InOrder(depth=1)
    slow: Future[int] = Future()
    assert list(in_order.add(slow)) == []
    threading.Timer(0.05, slow.set_result, [7]).start()
    assert list(in_order.add(Future())) == [7]


def test_what_the_work_raised_is_raised() -> None:
    failed: Future[int] = Future()
    failed.set_exception(OSError("disk"))
    with pytest.raises(OSError, match="disk"):
        list(InOrder[int](depth=1).add(failed))


def test_items_are_read_ahead_of_the_consumer() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    ahead = read_ahead(items(), weight=_weight, limit=10)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1, 2, 3, 4]
    assert list(ahead) == [1, 2, 3, 4]


def test_no_more_weight_than_the_limit_waits() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = read_ahead(items(), weight=_weight, limit=3)
    assert next(ahead) == 0
    time.sleep(0.1)
    # One given, three waiting, one in the reader's hand.
    assert len(made) == 5
    assert list(ahead) == list(range(1, 100))


def test_an_item_above_the_limit_passes() -> None:
    assert list(read_ahead([5, 6], weight=lambda item: item, limit=1)) == [5, 6]


def test_what_the_reader_raised_comes_after_what_it_gave() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("reset")

    ahead = read_ahead(items(), weight=_weight, limit=10)
    assert next(ahead) == 1
    with pytest.raises(OSError, match="reset"):
        next(ahead)


def test_a_consumer_that_stops_ends_the_reader() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    ahead = read_ahead(items(), weight=_weight, limit=2)
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
