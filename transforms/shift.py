"""How long a process is at work at a step: what its busy time is a share of."""

import threading
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from . import metrics


class Elapsed(NamedTuple):
    """Time that has passed, in microseconds.

    Attributes:
      bundle: Since the bundle began.
      usec: Not given by another bundle yet.
    """

    bundle: int
    usec: int


def _now() -> int:
    return time.perf_counter_ns() // 1000


class Shift:
    """The time in which this process has bundles open.

    Bundles of several threads overlap. Each that ends gives the time since the last
    one that ended, so that all together give the time in which any was open, once.

    Args:
      now: Gives microseconds that only grow.
    """

    def __init__(self, *, now: Callable[[], int] = _now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._given = 0

    def begin(self, bundle: object) -> None:
        """A bundle begins; one that is open, since it has failed, begins again.

        Args:
          bundle: Who works on it, the DoFn.
        """
        with self._lock:
            now = self._now()
            if not self._open:
                self._given = now
            self._open[id(bundle)] = now

    def end(self, bundle: object) -> Elapsed:
        """A bundle ends, if it is open."""
        with self._lock:
            if id(bundle) not in self._open:
                return Elapsed(0, 0)
            began = self._open.pop(id(bundle))
            given, self._given = self._given, self._now()
            return Elapsed(self._given - began, self._given - given)

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

    Counted: `active_usec`, the time in which a bundle of any step was open.
    """
    metrics.observe_usec("active_usec", _shift(_ANY).end(bundle).usec)
    return _shift(step).end(bundle)


def drop(step: str, bundle: object) -> None:
    """A DoFn goes, perhaps in the middle of a bundle."""
    for name in (_ANY, step):
        _shift(name).drop(bundle)
