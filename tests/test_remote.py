"""A job elsewhere: what is known of it while it runs."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.runner import PipelineState

from pipeline.errors import JobError
from pipeline.remote import RemoteJob, sums


def _metric(name: str, *, attempted: Any, committed: Any) -> SimpleNamespace:
    key = SimpleNamespace(metric=SimpleNamespace(name=name))
    return SimpleNamespace(key=key, attempted=attempted, committed=committed)


class _Result:
    """What a runner gives; its service can be made to fail."""

    def __init__(self, ask: Callable[[], dict[str, Any]]) -> None:
        self._job_id = "job-1"
        self._ask = ask
        self.state = PipelineState.DONE
        self.looks_away = 0

    def metrics(self) -> SimpleNamespace:
        return SimpleNamespace(query=lambda _: self._ask())

    def wait_until_finish(self) -> str:
        self.looks_away -= 1
        assert self.looks_away < 0, "as Beam's does"
        return self.state


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _images(count: int) -> dict[str, Any]:
    counter = _metric("images_predicted", attempted=count, committed=0)
    return {"counters": [counter], "distributions": []}


def test_metrics_are_asked_for_every_ten_seconds() -> None:
    asked: list[float] = []
    clock = _Clock()

    def ask() -> dict[str, Any]:
        asked.append(clock.now)
        return _images(len(asked))

    job = RemoteJob(_Result(ask), PipelineOptions([]), clock=clock)
    for second in range(25):
        clock.now = second
        job.tally()
    assert asked == [10, 20]
    assert job.tally() == {"images_predicted": 2}


@pytest.mark.parametrize("error", [grpc.RpcError(), ConnectionError(), KeyError()])
def test_what_was_told_last_stays_while_nothing_is_told(error: Exception) -> None:
    answers = iter([_images(7), error])

    def ask() -> dict[str, Any]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    clock = _Clock()
    job = RemoteJob(_Result(ask), PipelineOptions([]), clock=clock)
    clock.now = 10
    assert job.tally() == {"images_predicted": 7}
    clock.now = 20
    assert job.tally() == {"images_predicted": 7}


def test_what_may_still_fail_counts_only_while_the_job_runs() -> None:
    found = {
        "counters": [_metric("bad", attempted=5, committed=3)],
        "distributions": [
            _metric(
                "write_usec",
                attempted=SimpleNamespace(sum=50),
                committed=SimpleNamespace(sum=30),
            )
        ],
    }
    result = _Result(lambda: found)
    assert sums(result, done=False) == {"bad": 5, "write_usec": 50}
    assert sums(result, done=True) == {"bad": 3, "write_usec": 30}


def test_a_portable_job_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([1, 2])

    def answer(_: object) -> SimpleNamespace:
        found = _images(next(counts))
        return SimpleNamespace(query=lambda _: found)

    monkeypatch.setattr(portable_runner, "PortableMetrics", answer)
    service = SimpleNamespace(GetJobMetrics=lambda _: None)
    result = portable_runner.PipelineResult(service, "job-1", [], [])
    assert sums(result, done=False) == {"images_predicted": 1}
    assert sums(result, done=False) == {"images_predicted": 2}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            PipelineState.CANCELLED,
            "job job-1 was cancelled; what is written is whole, and the same command"
            " goes on from there",
        ),
        (PipelineState.DRAINED, "job job-1 ended as DRAINED: no reason given"),
    ],
)
def test_an_end_that_is_not_done_is_an_error(state: str, message: str) -> None:
    result = _Result(lambda: _images(1))
    result.state = state
    with pytest.raises(JobError, match=f"^{message}$"):
        RemoteJob(result, PipelineOptions([])).finish()


def test_a_job_that_beam_looks_away_from_is_waited_for() -> None:
    result = _Result(lambda: {"counters": [], "distributions": []})
    result.looks_away = 2
    assert RemoteJob(result, PipelineOptions([])).finish() == {}


def test_a_job_that_cannot_be_seen_is_not_said_to_have_failed() -> None:
    class Lost(_Result):
        @property
        def state(self) -> str:
            raise ConnectionError("no network")

        @state.setter
        def state(self, _: str) -> None:
            pass

    result = Lost(lambda: _images(1))
    result.looks_away = 1
    with pytest.raises(JobError, match="job job-1 is out of sight, and may go on"):
        RemoteJob(result, PipelineOptions([])).finish()
