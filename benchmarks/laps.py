"""The other end of a `Side`: what its process does. Imports nothing heavy."""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux: who was stopped would stay for ever."""


Prepare = Callable[[], tuple[Mapping[str, Any], Callable[[int], Any]]]


def once(prepare: Prepare) -> None:
    """Prepares, works for one lap of amount 1, prints it and returns; as in `serve`."""
    facts, work = prepare()
    print(json.dumps({**facts, **_lap(work, 1)}), flush=True)


def serve(prepare: Prepare) -> None:
    """Prepares, says that it is ready, and works until its input ends.

    Args:
      prepare: Gives the facts of the side, JSON-able, and its work: a function that
        takes an amount and returns the units done, or those and a mapping of what
        else is to be said of the lap. Its time is the lap's, so it must have finished
        when it returns.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    # What libraries print must not come between the answers.
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    facts, work = prepare()
    print(json.dumps({"ready": True, **facts}), file=answers, flush=True)
    for line in sys.stdin:
        lap = _lap(work, int(line.removeprefix("lap ")))
        print(json.dumps(lap), file=answers, flush=True)


def _lap(work: Callable[[int], Any], amount: int) -> dict[str, Any]:
    began = time.perf_counter()
    done = work(amount)
    seconds = time.perf_counter() - began
    units, more = done if isinstance(done, tuple) else (done, {})
    return {"seconds": seconds, "units": units, **more}
