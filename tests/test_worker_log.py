"""What workers log is readable."""

import logging
from collections.abc import Callable

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from pipeline import launch

Log = Callable[..., None]
WARN = beam_fn_api_pb2.LogEntry.Severity.WARN
ERROR = beam_fn_api_pb2.LogEntry.Severity.ERROR


SERVICES = (
    worker_handlers.BasicLoggingService,
    local_job_service.BeamFnLoggingServicer,
)


@pytest.fixture(params=SERVICES)
def log(request: pytest.FixtureRequest) -> Log:
    """Hands an entry of a worker's log to one of Beam's services."""
    launch.local_runner(PipelineOptions([]))

    def hand_on(**fields: object) -> None:
        entry = beam_fn_api_pb2.LogEntry(**fields)
        entries = beam_fn_api_pb2.LogEntry.List(log_entries=[entry])
        list(request.param().Logging([entries]))

    return hand_on


def test_a_workers_message_is_text(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    log(severity=WARN, message='gs://b/ü: "429"\nagain, 100%', thread="x")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == 'gs://b/ü: "429"\nagain, 100%'


def test_a_workers_trace_stays_with_its_message(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log(severity=ERROR, message="no", trace="Traceback (")
    assert [each.getMessage() for each in caplog.records] == ["no\nTraceback ("]


def test_only_errors_are_told_of_a_workers_start(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    place = "/x/apache_beam/runners/worker/sdk_worker_main.py:266"
    log(severity=WARN, message="No directory found", log_location=place)
    log(severity=ERROR, message="does not start", log_location=place)
    assert [each.getMessage() for each in caplog.records] == ["does not start"]


def test_other_messages_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    launch.local_runner(PipelineOptions([]))
    logging.getLogger().warning('message: "%s"', "x")
    assert caplog.records[0].getMessage() == 'message: "x"'
