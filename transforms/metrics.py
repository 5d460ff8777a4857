"""Beam metrics of all steps, under one namespace, and a copy for this process.

Beam gives metrics of a local run only after its end. The copy is what a progress
line reads meanwhile. Call these from a bundle's own thread: Beam books a metric on
the thread that processes the bundle.
"""

import threading
from collections import Counter
from functools import cache

from apache_beam.metrics import Metrics

NAMESPACE = "bitbeam"

_lock = threading.Lock()
_tally: Counter[str] = Counter()


def count(name: str, amount: int = 1) -> None:
    """Adds to the counter `name`."""
    _counter(name).inc(amount)
    with _lock:
        _tally[name] += amount


def observe_usec(name: str, microseconds: int) -> None:
    """Adds a value to the distribution `name`, a time in microseconds."""
    _distribution(name).update(microseconds)
    with _lock:
        _tally[name] += microseconds


def tally() -> dict[str, int]:
    """This process's sums so far; a bundle that was retried counts again."""
    with _lock:
        return dict(_tally)


@cache
def _counter(name: str) -> Metrics.DelegatingCounter:
    return Metrics.counter(NAMESPACE, name)


@cache
def _distribution(name: str) -> Metrics.DelegatingDistribution:
    return Metrics.distribution(NAMESPACE, name)
