"""Calls to storage, made again when what failed may pass by itself.

The clients' own retries are switched off where bitbeam calls them: theirs and these
would multiply, and a call that is refused for good would wait for minutes.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import tenacity

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that Google and Amazon ask clients to retry."""

_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        # What a network or FUSE mount says of a server that did not answer; of a disk
        # that is dying it costs some minutes until the job ends.
        errno.EIO,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)

_S3_CODES = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        # Comes with status 400.
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)

PASSING_TYPES = frozenset(
    {
        "botocore.exceptions.ChecksumError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.FlexibleChecksumError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.IncompleteReadError",
        "botocore.parsers.ResponseParserError",
        "builtins.ConnectionError",
        "builtins.TimeoutError",
        "google.auth.exceptions.TransportError",
        "google.cloud.storage.exceptions.DataCorruption",
        "http.client.HTTPException",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.ContentDecodingError",
        # An answer that was cut off, but whose length agrees.
        "requests.exceptions.JSONDecodeError",
        "requests.exceptions.Timeout",
        "urllib3.exceptions.PoolError",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.TimeoutError",
    }
)
"""Errors of the network and of cut answers, by name, so that a client that is not
installed is not needed. What derives from one counts too."""


class ShortReadError(OSError):
    """Storage gave fewer bytes than it said that there are."""


@dataclass(frozen=True)
class Retries:
    """How often a call is made, and how long it waits in between.

    The waits are random between zero and a bound that doubles (full jitter), so that
    workers which failed together do not come back together.

    Attributes:
      tries: Calls in all.
      seconds: After them no other try begins.
      first_wait: Seconds, at most, before the second try.
      longest_wait: Seconds, at most, before any other.
      sleep: Waits for a number of seconds.
      log_level: Of the line that tells of a retry.
    """

    tries: int = 10
    seconds: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    log_level: int = logging.WARNING


DEFAULT = Retries()


def call(work: Callable[[], T], *, what: str, retries: Retries = DEFAULT) -> T:
    """Makes a call, again for as long as its failure may pass.

    Args:
      work: Must do no harm when it is done twice.
      what: Names it in the log, a line for each retry.
      retries: How often.

    Raises:
      Exception: What the last call raised.
    """

    def log(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        _LOGGER.log(
            retries.log_level,
            "%s: try %d of %d failed, the next in %.1f s: %s",
            what,
            state.attempt_number,
            retries.tries,
            state.next_action.sleep,
            one_line(state.outcome.exception()),
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=(
            tenacity.stop_after_attempt(retries.tries)
            | tenacity.stop_after_delay(retries.seconds)
        ),
        wait=tenacity.wait_random_exponential(
            multiplier=retries.first_wait, max=retries.longest_wait
        ),
        sleep=retries.sleep,
        before_sleep=log,
        reraise=True,
    )
    return retrying(work)


def is_transient(error: object) -> bool:
    """Whether a failure may pass: of the network, of a server, of too many requests.

    Args:
      error: An exception; an HTTP status, as Beam's batch calls give it.
    """
    inner = list(_inner(error))
    if inner:
        return all(map(is_transient, inner))
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _ERRNOS or isinstance(error, ConnectionError)
    status = status_of(error)
    if status is not None:
        return status in _STATUSES or s3_code(error) in _S3_CODES
    return isinstance(error, ShortReadError) or bool(PASSING_TYPES & _names(error))


def _inner(error: object) -> Iterator[object]:
    """What a BeamIOError of several objects holds."""
    details = getattr(error, "exception_details", None)
    yield from (details or {}).values()


def _names(error: object) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def status_of(error: object) -> int | None:
    """The HTTP status behind an error of any client; None where there is none."""
    if isinstance(error, int):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "ResponseMetadata" in response:
        return response["ResponseMetadata"].get("HTTPStatusCode")
    for holder in (error, response):
        for name in ("code", "status_code"):
            status = getattr(holder, name, None)
            if isinstance(status, int):
                return int(status)
    return None


def s3_code(error: object) -> str | None:
    """The name that S3 gives an error."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("Error", {}).get("Code")
    return None


def one_line(error: object) -> str:
    """The innermost error in one line, in the server's words where it has any."""
    for inner in _inner(error):
        return one_line(inner)
    reason = getattr(next(iter(getattr(error, "args", ())), None), "reason", None)
    if isinstance(reason, Exception):
        # What requests says about a connection is mostly the URL.
        return one_line(reason)
    lines = [line for line in _words(error).splitlines() if line.strip()]
    text = lines[0].strip() if lines else ""
    if len(text) > 300:
        text = text[:297] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _words(error: object) -> str:
    """Google's errors begin with the request; what is wrong comes in a list."""
    for each in getattr(error, "errors", None) or ():
        if isinstance(each, dict) and each.get("message"):
            return f"{status_of(error)} {each['message']}"
    return str(error)
