"""What an interrupt does to a job that is on its way to a runner elsewhere."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from .errors import INTERRUPTED
from .remote import RemoteJob

_Handler = Callable[[int, FrameType | None], object]


def prepare() -> None:
    """From now on an interrupt says that there is no job."""
    _on_interrupt(_nothing_yet)


def submit(run: Callable[[], RemoteJob], options: PipelineOptions) -> RemoteJob:
    """Submits a job; an interrupt waits for the answer, a second one does not.

    To end at once would leave a job that nobody knows of: the request may have been
    sent. So an interrupt leaves when it can tell the job's id.

    Args:
      run: Submits it.
      options: Beam's, of the job.
    """
    interrupts = 0

    def interrupted(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:
            _leave(f"left without an answer: {_how_to_look(options)}")
        _say(
            "interrupted while the job is being submitted; what came of it is said"
            " when the answer is here (once more: leave now)"
        )

    _on_interrupt(interrupted)
    job = run()
    if job.id:
        _on_interrupt(job.leave)
        if interrupts:
            job.leave()
    return job


def _how_to_look(options: PipelineOptions) -> str:
    google = options.view_as(GoogleCloudOptions)
    if not (google.region and google.job_name):  # it is not on Dataflow
        return "there may be a job now; see the cluster's console"
    return (
        f"there may be a job {google.job_name} now; to see: gcloud dataflow jobs list"
        f" --project={google.project} --region={google.region}"
        f" --filter=name={google.job_name}"
    )


def _nothing_yet(number: int, frame: FrameType | None) -> NoReturn:
    _leave("interrupted; nothing was submitted")


def _on_interrupt(handler: _Handler) -> None:
    # Python takes signals in no other thread.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)


def _say(text: str) -> None:
    print(f"\nbitbeam: {text}", file=sys.stderr, flush=True)


def _leave(text: str) -> NoReturn:
    _say(text)
    os._exit(INTERRUPTED)
