"""Problems that `bitbeam verify` finds: one line each, and not too many of a kind."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SHOWN_RANGES = 4

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
      kind: Short and stable, `snake_case`: what problems are counted by.
      file: Where it is, as a path below the output, or the URI of an input.
      what: The rest of the line.
    """

    kind: str
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class Problems:
    """All that is wrong, of which only the first few of each kind are kept.

    A table may have lost a million files: the first ones say it, the count the rest.
    """

    def __init__(self, *, shown: int = 20) -> None:
        self._shown = shown
        self._counts: Counter[str] = Counter()
        self._lines: list[str] = []

    def extend(self, problems: Iterable[Problem]) -> None:
        """Takes problems in, in order."""
        for problem in problems:
            self._counts[problem.kind] += 1
            if self._counts[problem.kind] <= self._shown:
                self._lines.append(str(problem))

    @property
    def total(self) -> int:
        """How many there are."""
        return self._counts.total()

    def lines(self) -> Iterator[str]:
        """A line for each that is kept, then one for each kind that has more."""
        yield from self._lines
        for kind, count in sorted(self._counts.items()):
            if count > self._shown:
                yield f"and {count - self._shown:,} more of the kind {kind}"


def span_text(first: int, end: int) -> str:
    """`rows 5 to 9` for the rows from 5 up to, without, 10."""
    return f"row {first}" if end == first + 1 else f"rows {first} to {end - 1}"


def rows_text(rows: Rows) -> str:
    """`row 5`, `rows 5 to 9`, `rows 5, 7 to 9 and 30 more` of one row or more."""
    rows = np.unique(rows)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    shown = [
        str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}"
        for run in runs[:_SHOWN_RANGES]
    ]
    left = sum(len(run) for run in runs[_SHOWN_RANGES:])
    more = f" and {left:,} more" if left else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(shown)}{more}"
