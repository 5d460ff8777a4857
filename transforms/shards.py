"""Many shards in little more than the bytes of their names."""

import itertools
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .file import File
from .files import Files
from .lazy import Lazy
from .shard import Shard
from .strings import Strings


@dataclass(frozen=True)
class _Run:
    """Shards of one format, their files one after the other.

    Attributes:
      form: The format.
      files: Of all.
      names: The shards' URIs; None: each is of one file, and has its name.
      ends: Where each shard's files begin, and where the last one's end.
    """

    form: str
    files: Files
    names: Strings | None
    ends: "array[int]"

    def __len__(self) -> int:
        return len(self.files) if self.names is None else len(self.names)

    def shard(self, row: int) -> Shard:
        if self.names is None:
            return _alone(self.files.at(row), form=self.form)
        members = self.files.part(self.ends[row], self.ends[row + 1])
        return Shard(self.names.at(row), self.form, members)

    def shards(self) -> Iterator[Shard]:
        if self.names is None:
            return (_alone(file, form=self.form) for file in self.files)
        return map(self.shard, range(len(self)))

    def keys(self) -> Strings:
        """The shards' URIs."""
        if self.names is not None:
            return self.names
        uris = self.files.uris
        return uris if uris.is_text else Strings(file.key for file in self.files)


def _alone(file: File, *, form: str) -> Shard:
    return Shard(file.key, form, (file,))


class Shards(Lazy[Shard]):
    """A table of shards, none of which has been begun. A Shard is made when asked for.

    A million shard files are their URIs and 24 bytes each, and 8 more where there are
    shards of several formats.
    """

    __slots__ = ("_ends", "_order", "_runs")

    def __init__(
        self, runs: Sequence[_Run] = (), order: np.ndarray | None = None
    ) -> None:
        self._runs = tuple(run for run in runs if len(run))
        self._order = None if order is None else order.data
        self._ends = list(itertools.accumulate(map(len, self._runs)))

    @classmethod
    def of(cls, shards: Iterable[Shard]) -> "Shards":
        """The shards as a table, in their order; the same if they are one."""
        if isinstance(shards, Shards):
            return shards
        runs: dict[str, _Run] = {}
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, shard in enumerate(shards):
            new = _Run(shard.format, Files(), Strings(), array("q", [0]))
            run = runs.setdefault(shard.format, new)
            for file in shard.files:
                run.files.append(file.uri, file.size, file.updated)
            assert run.names is not None
            run.names.append(shard.uri)
            run.ends.append(len(run.files))
            places[shard.format].append(place)
        order = np.argsort([each for form in runs for each in places[form]])
        return cls(tuple(runs.values()), order)

    @classmethod
    def of_files(cls, form: str, files: Files) -> "Shards":
        """Shards of one file each."""
        return cls([_Run(form, files, None, array("q"))])

    @classmethod
    def of_runs(
        cls, form: str, files: Files, *, names: Strings, ends: "array[int]"
    ) -> "Shards":
        """Shards of files that follow each other.

        Args:
          form: The format of all.
          files: Of all, one shard's after the other's.
          names: URIs of the shards.
          ends: Where each shard's files begin, and where the last one's end.
        """
        return cls([_Run(form, files, names, ends)])

    @classmethod
    def in_order(cls, several: Iterable["Shards"]) -> "Shards":
        """All shards of several tables, in the order of their URIs."""
        runs = [run for shards in several for run in shards._runs]
        keys = [run.keys() for run in runs]
        if len(keys) > 1:  # else nothing need be copied
            keys = [Strings.from_arrow(pa.concat_arrays([k.arrow() for k in keys]))]
        return cls(runs, keys[0].order() if keys else None)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, row: int) -> Shard:
        if self._order is not None:
            row = self._order[row]
        begin = 0
        for run, end in zip(self._runs, self._ends, strict=True):
            if row < end:
                return run.shard(row - begin)
            begin = end
        raise AssertionError("a row is below the length")

    def __iter__(self) -> Iterator[Shard]:
        if self._order is not None:
            return super().__iter__()
        return (shard for run in self._runs for shard in run.shards())

    def of_format(self, form: str) -> "Shards":
        """Those of one format, in their order."""
        return self._some([run.form == form for run in self._runs])

    def but_of(self, form: str) -> "Shards":
        """Those of other formats, in their order."""
        return self._some([run.form != form for run in self._runs])

    def _some(self, chosen: Sequence[bool]) -> "Shards":
        runs = [run for run, is_in in zip(self._runs, chosen, strict=True) if is_in]
        if self._order is None:
            return Shards(runs)
        order, lengths = np.asarray(self._order), np.diff(self._ends, prepend=0)
        run_of = np.searchsorted(self._ends, order, side="right")
        gone_before = np.cumsum(np.where(chosen, 0, lengths))
        left = order - gone_before[run_of]
        return Shards(runs, left[np.array(chosen)[run_of]])

    def files_of(self, form: str) -> Files:
        """The files behind those of one format, by their URIs, each once."""
        tables = [run.files for run in self._runs if run.form == form]
        if len(tables) == 1:
            return tables[0].once()
        return Files(file for table in tables for file in table).once()
