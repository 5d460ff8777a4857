"""The progress line tells images, rate and time left, of work and not of loading."""

import io
import time

import pytest

from pipeline.progress import Watch, duration, status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (125, "2 min 5 s"), (10_930, "3 h 2 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_status_has_images_rate_and_time_left() -> None:
    tally = {"images_predicted": 1200, "bytes_read": 250, "bad": 34}
    line = status(tally, total_bytes=1000, seconds=60)
    assert line == "1,234 images, 20.0 images/s, 25% read, 3 min 0 s left, 34 bad"


def test_nothing_is_promised_before_the_first_image() -> None:
    assert status({}, total_bytes=1000, seconds=9) == "0 images, 0% read"


def test_an_input_without_bytes_is_read() -> None:
    assert status({}, total_bytes=0, seconds=9) == "0 images, 100% read"


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_until_the_first_image_is_not_of_the_rate() -> None:
    clock, tally = _Clock(), {"images_predicted": 5}
    watch = Watch(lambda: tally, total_bytes=8, stream=io.StringIO(), clock=clock)
    clock.now = 100.0
    assert watch._status() == "0 images, 0% read"
    tally = {"images_predicted": 25, "bytes_read": 4}
    clock.now = 110.0
    assert watch._status() == "20 images, 2.0 images/s, 50% read, 10.0 s left"
    assert watch.seconds == 110.0


def test_a_log_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.progress._LOG_SECONDS", 0.01)
    log = io.StringIO()
    with Watch(lambda: {"images_predicted": 3}, total_bytes=8, stream=log):
        deadline = time.monotonic() + 5
        while not log.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert log.getvalue().splitlines()[0] == "bitbeam: 0 images, 0% read"
