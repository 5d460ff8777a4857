"""What worker processes log, as this process logs it."""

import logging

from apache_beam.portability.api import beam_fn_api_pb2
from google.protobuf import text_format

_PROCESSES = "apache_beam.runners.portability.local_job_service"
_GRPC = "worker_handlers"
# Files of Beam whose warnings are of how this process starts workers.
_OF_THE_START = ("/sdk_worker_main.py:", "/pipeline_options.py:")


def make_plain() -> None:
    """Turns what Beam logs of local workers, messages as protocol buffers, into text.

    Its two logging services hand entries on in protobuf's text form: that of worker
    processes (`BeamFnLoggingServicer` of `local_job_service.py`), and that of workers
    behind gRPC, to the root logger (`BasicLoggingService` of `worker_handlers.py`).
    """
    for name in (_PROCESSES, None):
        logging.getLogger(name).addFilter(_unpack)


def _unpack(record: logging.LogRecord) -> bool:
    """Puts a worker's message in place of its entry; drops warnings of its start."""
    if record.name == _PROCESSES and record.msg == "Worker: %s":
        text = record.getMessage().removeprefix("Worker: ")
    elif record.module == _GRPC:
        text = record.getMessage()
    else:
        return True
    try:
        entry = text_format.Parse(text, beam_fn_api_pb2.LogEntry())
    except text_format.ParseError:
        return True
    if entry.message:
        lines = (entry.message, entry.trace)
        record.msg, record.args = "\n".join(filter(None, lines)), ()
    is_error = record.levelno >= logging.ERROR
    return is_error or not any(file in entry.log_location for file in _OF_THE_START)
