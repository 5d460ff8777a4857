"""What worker processes log, as this process logs it."""

import logging

from apache_beam.portability.api import beam_fn_api_pb2
from google.protobuf import text_format


def make_plain() -> None:
    """Turns what Beam logs of local workers, messages as protocol buffers, into text.

    Its logging service hands them to the root logger in protobuf's text form
    (`BasicLoggingService` of `fn_api_runner/worker_handlers.py`).
    """
    logging.getLogger().addFilter(_unpack)


def _unpack(record: logging.LogRecord) -> bool:
    """Puts a worker's message in place of its entry; keeps every record."""
    if record.module != "worker_handlers" or record.args:
        return True
    try:
        entry = text_format.Parse(record.getMessage(), beam_fn_api_pb2.LogEntry())
    except text_format.ParseError:
        return True
    if entry.message:
        record.msg = "\n".join(filter(None, (entry.message, entry.trace)))
    return True
