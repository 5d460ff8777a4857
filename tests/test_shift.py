"""The time in which a process has bundles of a step open is counted once."""

import pytest

from transforms.shift import Elapsed, Shift


class _Clock:
    usec = 0

    def __call__(self) -> int:
        return self.usec


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def test_a_bundle_gives_its_time(clock: _Clock) -> None:
    shift = Shift(now=clock)
    clock.usec = 100
    shift.begin("a")
    clock.usec = 150
    assert shift.end("a") == Elapsed(50, 50)


def test_bundles_that_overlap_give_their_time_once(clock: _Clock) -> None:
    shift = Shift(now=clock)
    shift.begin("a")
    clock.usec = 20
    shift.begin("b")
    clock.usec = 50
    assert shift.end("a") == Elapsed(50, 50)
    clock.usec = 70
    assert shift.end("b") == Elapsed(50, 20)


def test_the_time_between_bundles_is_not_counted(clock: _Clock) -> None:
    shift = Shift(now=clock)
    shift.begin("a")
    clock.usec = 10
    shift.end("a")
    clock.usec = 1_000
    shift.begin("b")
    clock.usec = 1_030
    assert shift.end("b") == Elapsed(30, 30)


def test_a_bundle_that_has_failed_is_open_no_more(clock: _Clock) -> None:
    shift = Shift(now=clock)
    shift.begin("a")
    shift.drop("a")
    assert shift.end("a") == Elapsed(0, 0)
    clock.usec = 10
    shift.begin("b")
    shift.begin("b")
    clock.usec = 25
    assert shift.end("b") == Elapsed(15, 15)
    clock.usec = 90
    shift.begin("c")
    assert shift.end("c").usec == 0


def test_the_time_of_a_bundle_that_has_failed_is_given_by_another(
    clock: _Clock,
) -> None:
    shift = Shift(now=clock)
    shift.begin("a")
    shift.begin("b")
    clock.usec = 30
    shift.drop("a")
    clock.usec = 50
    assert shift.end("b").usec == 50
