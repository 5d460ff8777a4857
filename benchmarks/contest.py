"""A contest: our side and others do the same work in turns, and a ratio comes out.

The machine is noisy, so no speed is compared with one of another minute. In a round
every side does one lap, in an order that turns around with each round; the ratio is
taken within the round; the median of the rounds' ratios is the figure.
"""

import contextlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .side import Lap, Once, Process, Side, SideError

Figure = Callable[[Mapping[str, Lap]], float]
"""From the laps of a round, by side, to what the bar is held against."""

SPEED = "speed"
_QUALIFYING = 3
"""Laps of each side that wants to take part."""


@dataclass(frozen=True)
class Bar:
    """What a figure must reach.

    Attributes:
      number: The least that will do, or the most.
      at_least: Whether it is the least.
      cores: Of the machine that it was set on; 0: it holds on any.
      flag: What the CPU of that machine can do, as in /proc/cpuinfo.
    """

    number: float
    at_least: bool = True
    cores: int = 2
    flag: str = "amx_bf16"

    def is_met(self, figure: float) -> bool:
        """Whether the figure is on the right side of it."""
        return figure >= self.number if self.at_least else figure <= self.number

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.number:g}"


@dataclass(frozen=True)
class Subject:
    """What a contest is about: names the file of its results.

    Attributes:
      model: As in `r50x1`.
      precision: Of our side; empty: what our side says of itself.
      size: Of the images, or of the job.
    """

    model: str
    precision: str = ""
    size: str = ""


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    Attributes:
      name: For `--only`.
      title: What is measured.
      how: How the figure is made, in words, for who reads nothing else.
      subject: Names the file.
      ours: Our side; of several the fastest, by qualifying laps.
      others: Whom it is held against.
      bar: What the figure must reach; None: it is only told.
      finalists: How many of the others go on after qualifying laps; the ratio is
        with the fastest of them. 0: all go on without any.
      figure: None: the shown quantity of ours over that of the fastest of the others;
        without others, the quantity itself.
      shown: The quantity of a lap: `speed`, `seconds`, `units` or a key of its
        `more`.
      unit: Of that quantity.
      lap_s: Seconds that a lap should take; 0: it is of amount 1.
      rounds: How many; 0: as the command says.
      prepare: Writes what the sides need; called once, before any starts.
    """

    name: str
    title: str
    how: str
    subject: Subject
    ours: tuple[Side, ...]
    others: tuple[Side, ...] = ()
    bar: Bar | None = None
    finalists: int = 0
    figure: Figure | None = None
    shown: str = SPEED
    unit: str = "img/s"
    lap_s: float = 3.0
    rounds: int = 0
    prepare: Callable[[], None] | None = None


@dataclass
class Outcome:
    """What came of a contest.

    Attributes:
      contest: Of which.
      rounds: The laps, by side.
      facts: What the sides said of themselves.
      qualifying: The best qualifying speed of each that tried.
      problems: What went wrong, a line each.
    """

    contest: Contest
    rounds: list[dict[str, Lap]] = field(default_factory=list)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    qualifying: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ours(self) -> str | None:
        """Our side's name; None: none took part."""
        return self._first(self.contest.ours)

    @property
    def other(self) -> str | None:
        """The fastest of the others that took part."""
        present = [side for side in self.contest.others if side.name in self._present]
        # What is shown may be memory or time, but who is best is who is fast.
        best = sorted(present, key=lambda side: -self._median(side.name, SPEED))
        return self._first(best)

    @property
    def figures(self) -> list[float]:
        """One of each round; none where a side is missing."""
        ours, other = self.ours, self.other
        if ours is None or (other is None and self.contest.others):
            return []
        if self.contest.figure:
            return [self.contest.figure(laps) for laps in self.rounds]
        values = [self.quantity(laps[ours]) for laps in self.rounds]
        if other is None:
            return values
        theirs = [self.quantity(laps[other]) for laps in self.rounds]
        return [one / two for one, two in zip(values, theirs, strict=True)]

    def shown(self, name: str) -> float:
        """The median of a side's quantity over the rounds."""
        return self._median(name, self.contest.shown)

    def quantity(self, lap: Lap) -> float:
        """What is shown of a lap."""
        return _quantity(lap, self.contest.shown)

    @property
    def _present(self) -> set[str]:
        return set(self.rounds[0]) if self.rounds else set()

    def _first(self, sides: Sequence[Side]) -> str | None:
        return next((side.name for side in sides if side.name in self._present), None)

    def _median(self, name: str, shown: str) -> float:
        return statistics.median(_quantity(laps[name], shown) for laps in self.rounds)


def _quantity(lap: Lap, shown: str) -> float:
    if shown in (SPEED, "seconds", "units"):
        return float(getattr(lap, shown))
    return float(lap.more[shown])


def hold(outcome: Outcome, *, rounds: int) -> None:
    """Holds a contest.

    Args:
      outcome: Of which contest; filled round by round, so that who interrupts it has
        what there was until then.
      rounds: How many, unless the contest says so itself.
    """
    contest = outcome.contest
    with contextlib.ExitStack() as stack:
        field_ = _Field(outcome, stack)
        try:
            if contest.prepare:
                contest.prepare()
        except SideError as error:
            field_.report(str(error))
            return
        field_.enter()
        for number in range(contest.rounds or rounds):
            if not field_.is_complete or not field_.race(turned=bool(number % 2)):
                break
            _say(f"{contest.name}: round {number + 1}: {_last(outcome)}")


class _Field:
    """The sides that take part."""

    def __init__(self, outcome: Outcome, stack: contextlib.ExitStack) -> None:
        self._outcome, self._stack = outcome, stack
        self._contest = outcome.contest
        self._processes: dict[str, Process] = {}
        self._amounts: dict[str, int] = {}

    def enter(self) -> None:
        """Starts the sides, after qualifying laps where there are more than needed."""
        contest = self._contest
        self._admit(contest.ours, most=1)
        if not self._processes:
            return
        self._admit(contest.others, most=contest.finalists or len(contest.others))

    def report(self, problem: str) -> None:
        """Notes what goes wrong."""
        self._outcome.problems.append(problem)
        _say(f"{self._contest.name}: {problem}")

    @property
    def is_complete(self) -> bool:
        """Whether there is who is needed for a figure."""
        contest = self._contest
        ours = any(side.name in self._processes for side in contest.ours)
        others = [side for side in contest.others if side.name in self._processes]
        if contest.figure:
            # It may need any of them.
            return ours and len(others) == len(contest.others)
        return ours and (bool(others) or not contest.others)

    def race(self, *, turned: bool) -> bool:
        """A lap of each, and whether it counts."""
        order = list(self._processes)
        laps = {name: self._lap(name) for name in (order[::-1] if turned else order)}
        if not self.is_complete:
            # The rounds until now stand.
            return False
        finished = {name: lap for name, lap in laps.items() if lap}
        for name in laps.keys() - finished.keys():
            # As if it had never taken part.
            for earlier in self._outcome.rounds:
                del earlier[name]
        self._outcome.rounds.append(finished)
        return True

    def _lap(self, name: str) -> Lap | None:
        try:
            return self._processes[name].lap(self._amounts[name])
        except SideError as error:
            self.report(str(error))
            self._processes.pop(name).close()
            return None

    def _admit(self, sides: Sequence[Side], *, most: int) -> None:
        """Lets the fastest take part, one after the other: all may not fit."""
        admitted: list[str] = []
        for side in sides:
            _say(f"{self._contest.name}: {side.name} prepares")
            try:
                self._try(side, qualify=len(sides) > most)
            except SideError as error:
                self.report(str(error))
                continue
            speeds = self._outcome.qualifying
            admitted.append(side.name)
            admitted.sort(key=lambda name: -speeds.get(name, 0))
            for name in admitted[most:]:
                self._processes.pop(name).close()
            admitted = admitted[:most]

    def _try(self, side: Side, *, qualify: bool) -> None:
        process = side.start()
        self._stack.callback(process.close)
        try:
            amount = 1 if isinstance(side, Once) else self._warm(process)
            if qualify:
                speeds = [process.lap(amount).speed for _ in range(_QUALIFYING)]
                self._outcome.qualifying[side.name] = max(speeds)
                _say(f"{self._contest.name}: {side.name}: {max(speeds):.4g} a second")
        except SideError:
            process.close()
            raise
        self._outcome.facts[side.name] = process.facts
        self._processes[side.name] = process
        self._amounts[side.name] = amount

    def _warm(self, process: Process) -> int:
        """How much of its work makes a lap; what happens once has then happened."""
        process.lap(1)
        if not self._contest.lap_s:
            return 1
        return max(1, round(self._contest.lap_s / process.lap(1).seconds))


def _last(outcome: Outcome) -> str:
    laps = outcome.rounds[-1].items()
    shown = [f"{name} {outcome.quantity(lap):.4g}" for name, lap in laps]
    unit = outcome.contest.unit
    figures = outcome.figures
    return f"{', '.join(shown)} {unit}" + (f": {figures[-1]:.4g}" if figures else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
