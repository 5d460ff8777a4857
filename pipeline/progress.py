"""What a person sees while a run works, and the line at its end."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_TERMINAL_SECONDS, _LOG_SECONDS = 0.5, 30.0


def duration(seconds: float) -> str:
    """`8.1 s`, `2 min 5 s`, `3 h 2 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def status(tally: Mapping[str, int], *, total_bytes: int, seconds: float) -> str:
    """One line: images, rate, share, time left, bad ones.

    Args:
      tally: Sums of the steps' metrics so far.
      total_bytes: Of all shards that need work.
      seconds: Of work: without the time until the first image.
    """
    images = tally.get("images_predicted", 0)
    bad = tally.get("bad", 0)
    share = tally.get("bytes_read", 0) / total_bytes if total_bytes else 1.0
    parts = [f"{images + bad:,} images"]
    if images:
        parts.append(f"{images / seconds:.1f} images/s")
    parts.append(f"{share:.0%} read")
    if images and 0 < share < 1:
        parts.append(f"{duration(seconds * (1 - share) / share)} left")
    if bad:
        parts.append(f"{bad:,} bad")
    return ", ".join(parts)


class Watch:
    """Shows the status while its block runs: a bar on a terminal, else plain lines.

    Args:
      read_tally: Gives the sums of the steps' metrics so far.
      total_bytes: Of all shards that need work.
      stream: Where to, usually standard error.
      clock: Seconds that only grow.
    """

    def __init__(
        self,
        read_tally: Callable[[], Mapping[str, int]],
        *,
        total_bytes: int,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_tally, self._total = read_tally, total_bytes
        self._console, self._clock = Console(file=stream), clock
        self._done = threading.Event()
        self._before = dict(read_tally())
        self._start = self._working_since = clock()
        show = self._show_bar if self._console.is_terminal else self._show_lines
        self._thread = threading.Thread(target=show, name="progress", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join(timeout=1.0)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._clock() - self._start

    def tally(self) -> dict[str, int]:
        """Sums of the steps' metrics since the start."""
        now = self._read_tally()
        return {name: now[name] - self._before.get(name, 0) for name in now}

    def _status(self) -> str:
        tally, now = self.tally(), self._clock()
        if not tally.get("images_predicted"):
            # Loading the model takes a while and says nothing of the rate.
            self._working_since = now
        seconds = max(now - self._working_since, _TERMINAL_SECONDS)
        return status(tally, total_bytes=self._total, seconds=seconds)

    def _show_bar(self) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("starting", total=max(1, self._total))
            while not self._done.wait(_TERMINAL_SECONDS):
                read = self.tally().get("bytes_read", 0)
                bar.update(task, completed=read, description=self._status())

    def _show_lines(self) -> None:
        while not self._done.wait(_LOG_SECONDS):
            self._console.print(
                f"bitbeam: {self._status()}", highlight=False, soft_wrap=True
            )
