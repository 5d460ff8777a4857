"""What bound a run: how busy each step was, from the job's metrics alone.

A step's share is the time that it was busy over the time that it could have been, each
summed over all bundles and processes of the job: the same on one worker and on many. A
process could have been busy while it had a bundle open. Loading the model comes before
that, and is starting up.

- read, `read_usec` of `read_capacity_usec`: the time in which the threads that read
  ahead were at work, waiting for the storage included, for the decoder not; of the time
  of the bundles, as each has one such thread at a time.
- decode, `decode_usec` of `decode_capacity_usec`: processor time of the pool's threads;
  of the time in which a bundle was open, times the cores, or times the threads where
  they are fewer.
- model, `predict_usec` of `predict_capacity_usec`: the time in which a batch was on the
  device, added over its streams; of the time in which a bundle was open, times streams.
- write, `write_usec` of `write_capacity_usec`: the time of encoding and storing parts;
  of the time of the bundles, as each has one thread that writes.

What binds is the step that waits for no other. The decoder does not while its threads
are always at work, `decode_clock_usec` of `decode_threads_usec`, though they may wait
for a core that the model has, or another program.
"""

from collections.abc import Mapping

_LEAST_USEC = 2_000_000
"""Below it a run is all beginning and end, and its shares mislead."""

_STEPS = {"read": "read", "decode": "decode", "model": "predict", "write": "write"}
"""Names on the screen, and of the metrics."""

_BINDS = {
    "read": "reading",
    "decode": "decoding",
    "model": "the model",
    "write": "writing",
}

_FULL = 0.95
"""A step this busy has no time left; the rest goes where one block hands to another."""

_HALF = 0.5


def bottleneck(sums: Mapping[str, int], *, seconds: float) -> str:
    """One line: how busy each step was, and what bound the run.

    Args:
      sums: Of the metrics, over all steps and workers.
      seconds: Of the run, from its submission.

    Returns:
      Such as `read 3%, decode 11%, model 96% busy, write 1%: bound by the model`;
      empty where the work took less than two seconds.
    """
    active = sums.get("active_usec", 0)
    if active < _LEAST_USEC:
        return ""
    shares = {name: _share(sums, step) for name, step in _STEPS.items()}
    told = ", ".join(
        f"{name} {share:.0%}" + (" busy" if name == "model" else "")
        for name, share in shares.items()
    )
    return f"{told}: bound by {_bound(shares, sums, seconds=seconds)}"


def _share(sums: Mapping[str, int], step: str) -> float:
    return _ratio(sums, f"{step}_usec", f"{step}_capacity_usec")


def _ratio(sums: Mapping[str, int], busy: str, capacity: str) -> float:
    # A bundle that failed may have told the one and not the other.
    return min(1.0, sums.get(busy, 0) / (sums.get(capacity) or sums["active_usec"]))


def _bound(
    shares: Mapping[str, float], sums: Mapping[str, int], *, seconds: float
) -> str:
    if sums["active_usec"] < _HALF * seconds * 1e6:
        return "starting up"
    # Nothing holds up a model that has no time left.
    if shares["model"] >= _FULL:
        return _BINDS["model"]
    decode = _ratio(sums, "decode_clock_usec", "decode_threads_usec")
    at_work = {**shares, "decode": decode}
    busiest = max(at_work, key=lambda name: at_work[name])
    return _BINDS[busiest] if at_work[busiest] >= _HALF else "none of them"
