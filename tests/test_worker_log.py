"""What workers log is readable."""

import logging

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from pipeline import launch

WARN = beam_fn_api_pb2.LogEntry.Severity.WARN


def _logged(entry: beam_fn_api_pb2.LogEntry, caplog: pytest.LogCaptureFixture) -> str:
    """What Beam makes of a worker's entry."""
    launch.local_runner(PipelineOptions([]))
    entries = beam_fn_api_pb2.LogEntry.List(log_entries=[entry])
    list(worker_handlers.BasicLoggingService().Logging([entries]))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    return record.getMessage()


def test_a_workers_message_is_text(caplog: pytest.LogCaptureFixture) -> None:
    entry = beam_fn_api_pb2.LogEntry(
        severity=WARN, message='gs://b/ü: "429"\nagain, 100%', thread="x"
    )
    assert _logged(entry, caplog) == 'gs://b/ü: "429"\nagain, 100%'


def test_a_workers_trace_stays_with_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entry = beam_fn_api_pb2.LogEntry(severity=WARN, message="no", trace="Traceback (")
    assert _logged(entry, caplog) == "no\nTraceback ("


def test_other_messages_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    launch.local_runner(PipelineOptions([]))
    logging.getLogger().warning('message: "%s"', "x")
    assert caplog.records[0].getMessage() == 'message: "x"'
