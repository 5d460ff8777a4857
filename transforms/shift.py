"""How long a process is at work at a step: what its busy time is a share of."""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from . import metrics
from .bit import machine


class Elapsed(NamedTuple):
    """Time that has passed, in microseconds.

    Attributes:
      bundle: Since the bundle began.
      usec: Not given by another bundle yet.
      processor: The same, of the processor, in all threads of this process.
    """

    bundle: int
    usec: int
    processor: int


def _now() -> tuple[int, int]:
    return time.perf_counter_ns() // 1000, time.process_time_ns() // 1000


class Shift:
    """The time in which this process has bundles open.

    Bundles of several threads overlap. Each that ends gives the time since the last
    one that ended, so that all together give the time in which any was open, once.

    Args:
      now: Gives microseconds of the clock and of the processor.
    """

    def __init__(self, *, now: Callable[[], tuple[int, int]] = _now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._given = (0, 0)

    def begin(self, bundle: object) -> None:
        """A bundle begins; one that is open, since it has failed, begins again.

        Args:
          bundle: Who works on it, the DoFn.
        """
        with self._lock:
            now = self._now()
            if not self._open:
                self._given = now
            self._open[id(bundle)] = now[0]

    def end(self, bundle: object) -> Elapsed:
        """A bundle ends, if it is open."""
        with self._lock:
            if id(bundle) not in self._open:
                return Elapsed(0, 0, 0)
            began = self._open.pop(id(bundle))
            (clock, processor), now = self._given, self._now()
            self._given = now
            return Elapsed(now[0] - began, now[0] - clock, now[1] - processor)

    def drop(self, bundle: object) -> None:
        """A bundle that may be open has failed; its time is another's, if any."""
        with self._lock:
            self._open.pop(id(bundle), None)


@cache
def _shift(step: str) -> Shift:
    """This process's, of a step."""
    return Shift()


_ANY = ""


def begin(step: str, bundle: object) -> None:
    """A DoFn begins a bundle of a step."""
    for name in (_ANY, step):
        _shift(name).begin(bundle)


def end(step: str, bundle: object) -> Elapsed:
    """A DoFn has done a bundle of a step; gives the step's time.

    Counted, of the time in which the process had a bundle of any step open:
    `active_usec`, `processor_usec` of all its threads, `cores_usec` that there were.
    """
    active = _shift(_ANY).end(bundle)
    metrics.observe_usec("active_usec", active.usec)
    metrics.observe_usec("processor_usec", active.processor)
    metrics.observe_usec("cores_usec", active.usec * machine.cores())
    return _shift(step).end(bundle)


def drop(step: str, bundle: object) -> None:
    """A DoFn goes, perhaps in the middle of a bundle."""
    for name in (_ANY, step):
        _shift(name).drop(bundle)
