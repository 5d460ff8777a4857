"""The parts of one of the two tables, as far as their names tell."""

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from transforms.strings import Strings

_STEM = re.compile(
    r"(?P<name>(?P<family>.+-[gs][0-9a-f]{16})-[0-9a-f]{10})"
    r"-(?P<first>\d{10})(?P<last>-last)?"
)


@dataclass(frozen=True)
class Table:
    """One version of a shard as far as it is in the output.

    Attributes:
      name: The shard's name.
      firsts: First rows of its parts.
      last: First row of its last part; None: not written yet.
    """

    name: str
    firsts: frozenset[int]
    last: int | None

    def is_complete(self, *, rows_per_part: int) -> bool:
        """Whether all parts are there."""
        return self.last is not None and self.firsts.issuperset(
            range(0, self.last + 1, rows_per_part)
        )


class Parts:
    """Names of parts, by the versions of shards that they are of.

    A million names are their bytes and 32 each. What is met in the input is marked.

    Attributes:
      stems: The names, in order, each once.
      is_group: bool, of each version of a shard: whether it is of plain files.
      is_wanted: bool, of each version of a shard: whether it has been met.
      is_known: bool, of each: whether any version of the shard has been.
    """

    def __init__(self, stems: Iterable[str]) -> None:
        """Takes those of the stems that are of parts; `verify` tells of others."""
        self.stems = Strings.of(stems).once()
        if not all(map(_STEM.fullmatch, self.stems)):
            self.stems = Strings(filter(_STEM.fullmatch, self.stems))
        starts, digests, is_group = array("q"), array("Q"), bytearray()
        before = ""
        for row, stem in enumerate(self.stems):
            name = _name(stem)
            if name != before:
                starts.append(row)
                digests.append(_digest(name))
                is_group.append(name[-28] == "g")
                before = name
        starts.append(len(self.stems))
        self._starts = starts
        by_digest = np.argsort(np.asarray(digests), kind="stable")
        self._digests = np.asarray(digests)[by_digest]
        self._by_digest = by_digest.data
        self.is_group = np.array(is_group, bool)
        self.is_wanted = np.zeros(len(self), bool)
        self.is_known = np.zeros(len(self), bool)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def name(self, row: int) -> str:
        """The name of a version of a shard."""
        return _name(self.stems.at(self._starts[row]))

    def stems_of(self, row: int) -> Sequence[str]:
        """The parts of a version of a shard."""
        return self.stems.part(self._starts[row], self._starts[row + 1])

    def table(self, row: int) -> Table:
        """What there is of a version of a shard."""
        firsts, last, name = set[int](), None, self.name(row)
        for at in range(self._starts[row], self._starts[row + 1]):
            first, _, mark = self.stems.at(at)[len(name) + 1 :].partition("-")
            firsts.add(int(first))
            if mark:
                last = int(first)
        return Table(name, frozenset(firsts), last)

    def meet(self, names: Sequence[str]) -> list[int | None]:
        """Marks the shards of these names.

        Returns:
          The row of each version; None: nothing of it is there.
        """
        if not len(self):
            return [None] * len(names)
        digests = np.fromiter(map(_digest, names), np.uint64, len(names))
        begins = np.searchsorted(self._digests, digests, side="left")
        ends = np.searchsorted(self._digests, digests, side="right")
        return [
            self._meet(name, range(begin, end)) if begin < end else None
            for name, begin, end in zip(
                names, begins.tolist(), ends.tolist(), strict=True
            )
        ]

    def _meet(self, name: str, places: range) -> int | None:
        met = None
        for place in places:
            row = self._by_digest[place]
            found = self.name(row)
            if found == name:
                met = row
                self.is_wanted[row] = True
            if found[:-10] == name[:-10]:
                self.is_known[row] = True
        return met

    def rows_of(self, chosen: np.ndarray) -> np.ndarray:
        """Rows of the stems of the versions that a bool array chooses."""
        return np.flatnonzero(np.repeat(chosen, np.diff(self._starts)))


def _name(stem: str) -> str:
    return stem.removesuffix("-last")[:-11]


def _digest(name: str) -> int:
    """What the name says of the shard's URI, of which it is a digest."""
    return int(name[-27:-11], 16)
