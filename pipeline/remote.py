"""A job that runs elsewhere: its id, its metrics while it runs, how it ended."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import grpc  # type: ignore[import-untyped]
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRuntimeException,
)
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.runner import PipelineResult, PipelineState
from google.api_core.exceptions import GoogleAPIError

from transforms import metrics

from .errors import INTERRUPTED, JobError

_POLL_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)

Tally = dict[str, int]


class RemoteJob:
    """A job from its submission on.

    Args:
      result: What the runner gave when it was submitted.
      options: Beam's, of the job.
      clock: Seconds that only grow.
    """

    def __init__(
        self,
        result: PipelineResult,
        options: PipelineOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._result, self._options, self._clock = result, options, clock
        # Not at once: a job has done nothing when it is submitted.
        self._polled = clock()
        self._tally: Tally = {}

    @property
    def id(self) -> str:
        """The runner's name of it; empty where it only wrote a template."""
        if isinstance(self._result, DataflowPipelineResult):
            return self._result.job_id() if self._result.has_job else ""
        return str(self._result._job_id)

    @property
    def where(self) -> str:
        """Where a person looks at it."""
        if not isinstance(self._result, DataflowPipelineResult):
            return ""
        google = self._options.view_as(GoogleCloudOptions)
        return (
            f"https://console.cloud.google.com/dataflow/jobs/{google.region}/{self.id}"
            f"?project={google.project}"
        )

    @property
    def cancel_command(self) -> str:
        """What ends it."""
        if not isinstance(self._result, DataflowPipelineResult):
            return "cancel it in the cluster's console"
        google = self._options.view_as(GoogleCloudOptions)
        return (
            f"gcloud dataflow jobs cancel {self.id} --project={google.project}"
            f" --region={google.region}"
        )

    def tally(self) -> Tally:
        """Sums of the steps' metrics so far, not older than ten seconds.

        What the service does not tell now is what it told last.
        """
        if self._clock() - self._polled >= _POLL_SECONDS:
            self._polled = self._clock()
            self._poll(done=False)
        return self._tally

    @contextlib.contextmanager
    def left_alone(self) -> Iterator[None]:
        """While the block runs, an interrupt ends this process only, and says so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self.leave)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def leave(self, number: int = 0, frame: FrameType | None = None) -> NoReturn:
        """Ends this process, not the job, and says so."""
        print(
            f"\nbitbeam: interrupted; job {self.id} goes on without this terminal; to"
            f" end it: {self.cancel_command}",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(INTERRUPTED)

    def _poll(self, *, done: bool) -> None:
        try:
            self._tally = sums(self._result, done=done)
        except (GoogleAPIError, grpc.RpcError, OSError, KeyError) as error:
            # KeyError: Beam's, where a metric is not there in both its forms yet.
            _LOGGER.debug("metrics of job %s: %r", self.id, error)

    def finish(self) -> Tally:
        """Waits for its end.

        Returns:
          Sums of bitbeam's counters and times, from all workers.

        Raises:
          JobError: It failed, was cancelled, or cannot be seen any longer.
        """
        state = self._wait()
        if state not in (None, PipelineState.DONE):
            raise JobError(self._failure(state))
        self._poll(done=True)
        return self._tally

    def _wait(self) -> str | None:
        ended, state = False, None
        while not ended:
            ended, state = self._wait_once()
        return state

    def _wait_once(self) -> tuple[bool, str | None]:
        """Whether it has ended, and how."""
        try:
            return True, self._result.wait_until_finish()
        except DataflowRuntimeException as error:
            raise JobError(self._failure(error.result.state)) from error
        except AssertionError:
            # Beam looks away 50 s after a cancel has begun, which takes longer, and
            # when its polling thread has died of a network's outage.
            self._check_seen()
            return False, None

    def _check_seen(self) -> None:
        try:
            state = self._result.state
        except (GoogleAPIError, OSError) as error:
            raise JobError(
                f"job {self.id} is out of sight, and may go on; see {self.where}"
            ) from error
        _LOGGER.debug("job %s is in state %s", self.id, state)

    def _failure(self, state: str) -> str:
        if state == PipelineState.CANCELLED:
            return (
                f"job {self.id} was cancelled; what is written is whole, and the same"
                " command goes on from there"
            )
        runner = getattr(self._result, "_runner", None)
        message = getattr(runner, "last_error_msg", None) or "no reason given"
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        seen = f"; see {self.where}" if self.where else ""
        return f"job {self.id} ended as {state}: {lines[-1]}{seen}"


def sums(result: PipelineResult, *, done: bool) -> Tally:
    """Sums of bitbeam's counters and times over all steps and workers.

    Args:
      result: Of a pipeline.
      done: It has ended. Before that, also what bundles hold that may still fail.
    """
    if isinstance(result, portable_runner.PipelineResult):
        # It keeps the first answer for good.
        result._metrics = None
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    totals: Counter[str] = Counter()
    for counter in found["counters"]:
        value = counter.committed if done else counter.attempted or counter.committed
        totals[counter.key.metric.name] += value or 0
    for distribution in found["distributions"]:
        spread = distribution.committed
        if not done:
            spread = distribution.attempted or spread
        totals[distribution.key.metric.name] += spread.sum if spread else 0
    return dict(totals)
