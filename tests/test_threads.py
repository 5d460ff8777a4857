"""Work in threads: in order, several at once, and never more than a few."""

import threading
from collections.abc import Iterator

import pytest

from transforms.threads import in_threads


def test_several_are_done_at_once_and_come_in_order() -> None:
    together = threading.Barrier(8)

    def work(item: int) -> int:
        together.wait(timeout=10)
        return item * 2

    found = in_threads(work, range(64), threads=8, name="test")
    assert list(found) == [item * 2 for item in range(64)]


def test_no_more_are_taken_than_there_are_threads() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    found = in_threads(lambda item: item, items(), threads=4, name="test")
    for number in range(100):
        assert next(found) == number
        assert len(taken) <= number + 5


def test_the_first_failure_ends_it() -> None:
    done = []

    def work(item: int) -> int:
        done.append(item)
        if item >= 5:
            raise OSError(f"of {item}")
        return item

    found = in_threads(work, range(1000), threads=4, name="test")
    with pytest.raises(OSError, match="of 5"):
        list(found)
    assert len(done) <= 9
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("test")]
