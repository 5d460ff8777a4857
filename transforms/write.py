"""WriteParts: blocks to the files of the output."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from . import metrics, shift, storage
from .ahead import InOrder
from .block import Block
from .part import (
    EMBEDDINGS,
    IncompletePartError,
    PartTotals,
    is_complete,
    part_stem,
    part_uri,
    read_totals,
)
from .part_writer import PartWriter, write_part
from .streak import BadStreak

_AHEAD_BYTES = 32 << 20
"""Rows that may wait while a part is stored."""


class Sink(NamedTuple):
    """Where the parts go.

    Attributes:
      output: The output's folder.
      identity: Digest of what all of its rows have in common, kept in each file.
      max_error_rate: A process gives up when of 2,000 images in a row more than this,
        and more than 95 %, are bad.
    """

    output: str
    identity: str
    max_error_rate: float = 1.0


class WriteParts(beam.PTransform):
    """Writes each part of each shard as its one or two files, whole or not at all.

    A part is written when its last block has come. What a bundle leaves incomplete,
    because a runner put a shuffle before this step, is gathered by part and written
    then; where the steps are fused nothing is, and nothing waits for a barrier. A
    block that is delivered twice changes nothing.

    Args:
      sink: Where the parts go.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def expand(
        self, blocks: beam.pvalue.PCollection[Block]
    ) -> beam.pvalue.PCollection[PartTotals]:
        whole = blocks | "Whole" >> beam.ParDo(_WriteParts(self._sink)).with_outputs(
            "incomplete", main="written"
        )
        gathered = (
            whole.incomplete
            | "Gather" >> beam.GroupByKey()
            | "Gathered" >> beam.ParDo(_WriteGathered(self._sink))
        )
        return (
            (whole.written, gathered)
            | "Written" >> beam.Flatten()
            | "ByPart" >> beam.Map(_by_stem)
            # Two bundles may each have written the same part: it counts once.
            | "Twice" >> beam.GroupByKey()
            | "Once" >> beam.Map(_first)
        )


def _by_stem(totals: PartTotals) -> tuple[str, PartTotals]:
    return totals.stem, totals


def _first(group: tuple[str, Iterable[PartTotals]]) -> PartTotals:
    return next(iter(group[1]))


class _WriteParts(beam.DoFn):
    """Block in; out what each part holds that is now written.

    At the end of a bundle: tagged `incomplete`, the blocks of parts that lack some.
    Metrics: parts_written, images_written, write_usec (a row group's time in the
      writing thread, and a part's), write_capacity_usec (a bundle's time).
    Bad records: go to `errors/`; too many in a row are a TooManyBadError. What the
      storage raises is raised.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._steps: InOrder[_Step] | None = None

    def display_data(self) -> dict[str, object]:
        return {"output": self._sink.output}

    def setup(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._streak = BadStreak(self._sink.max_error_rate)

    def start_bundle(self) -> None:
        self._cancel()  # of a bundle that failed
        shift.begin("write", self)
        self._parts: dict[str, _Arriving] = {}
        self._begun: set[str] = set()
        self._steps = InOrder(_AHEAD_BYTES)

    def process(
        self, block: Block
    ) -> Iterator[PartTotals | TaggedOutput[Literal["incomplete"], tuple[str, Block]]]:
        key = _part_key(block)
        if key in self._begun:
            return
        self._streak.add(block)
        part = self._parts.setdefault(key, _Arriving(block.place.part))
        for ready in part.in_turn(block):
            if blocks := part.writer.take(ready):
                size = sum(each.nbytes for each in blocks)
                yield from self._start(size, part.writer.pack, blocks)
            if ready.place.ends_part:
                del self._parts[key]
                self._begun.add(key)
                output, identity, _ = self._sink
                where = {"output": output, "identity": identity}
                yield from self._start(0, part.writer.write, **where)

    def finish_bundle(
        self,
    ) -> Iterator[
        WindowedValue | TaggedOutput[Literal["incomplete"], tuple[str, Block]]
    ]:
        assert self._steps is not None
        for totals in _counted(self._steps.drain()):
            yield GlobalWindows.windowed_value(totals)
        for key, part in self._parts.items():
            for block in (*part.writer.blocks(), *part.early):
                value = GlobalWindows.windowed_value((key, block))
                yield TaggedOutput("incomplete", value)
        metrics.observe_usec("write_capacity_usec", shift.end("write", self).bundle)

    def teardown(self) -> None:
        shift.drop("write", self)
        self._cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(
        self,
        size: int,
        work: Callable[..., PartTotals | None],
        *args: Any,
        **named: Any,
    ) -> Iterator[PartTotals]:
        assert self._steps is not None
        step = self._thread.submit(_timed, work, *args, **named)
        return _counted(self._steps.add(step, weight=size))

    def _cancel(self) -> None:
        if self._steps is not None:
            self._steps.cancel()


class _Arriving:
    """A part whose blocks come in any order, some of them twice.

    Args:
      first: The part's first row.
    """

    def __init__(self, first: int) -> None:
        self.writer = PartWriter()
        self._next = first
        self._early: dict[int, Block] = {}

    @property
    def early(self) -> Iterable[Block]:
        """The blocks whose turn it is not yet."""
        return self._early.values()

    def in_turn(self, block: Block) -> Iterator[Block]:
        """Takes one more; yields, in order, those whose turn it is."""
        if block.place.row >= self._next:
            self._early[block.place.row] = block
        while ready := self._early.pop(self._next, None):
            self._next = ready.end
            yield ready


class _WriteGathered(beam.DoFn):
    """(Part, its blocks) in; out what the part holds, now written.

    Metrics: parts_written, images_written, parts_gathered, write_usec,
      write_capacity_usec.
    Bad records: a part that lacks a block must have been written whole by another
      bundle, from another delivery of the same blocks; else it is an error.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def start_bundle(self) -> None:
        shift.begin("write", self)

    def finish_bundle(self) -> None:
        metrics.observe_usec("write_capacity_usec", shift.end("write", self).bundle)

    def teardown(self) -> None:
        shift.drop("write", self)

    def process(self, group: tuple[str, Iterable[Block]]) -> Iterator[PartTotals]:
        blocks = _in_order({block.place.row: block for block in group[1]}.values())
        if not is_complete(blocks):
            self._check_written(blocks[0])
            return
        metrics.count("parts_gathered")
        output, identity, _ = self._sink
        step = _timed(write_part, blocks, output=output, identity=identity)
        yield from _counted([step])

    def _check_written(self, block: Block) -> None:
        stems = [part_stem(block.place, last=last) for last in (False, True)]
        uris = [part_uri(self._sink.output, EMBEDDINGS, stem) for stem in stems]
        if not any(map(storage.exists, uris)):
            raise IncompletePartError(f"blocks are missing of {uris[0]}")


class _Step(NamedTuple):
    """A piece of work of the writing thread; what it wrote, if a part."""

    written: PartTotals | None
    microseconds: int


def _part_key(block: Block) -> str:
    return part_stem(block.place, last=False)


def _in_order(blocks: Iterable[Block]) -> list[Block]:
    return sorted(blocks, key=lambda block: (block.place.row, block.end))


def _timed(work: Callable[..., PartTotals | None], *args: Any, **named: Any) -> _Step:
    start = time.perf_counter_ns()
    written = work(*args, **named)
    return _Step(written, (time.perf_counter_ns() - start) // 1000)


def _counted(steps: Iterable[_Step]) -> Iterator[PartTotals]:
    """Counts what was done; gives what was written."""
    for step in steps:
        metrics.observe_usec("write_usec", step.microseconds)
        if step.written is not None:
            totals = step.written
            metrics.count("parts_written")
            metrics.count("images_written", totals.end_row - totals.first_row)
            yield totals


class ReadTotals(beam.PTransform):
    """Reads what parts hold that are written already, by their stems.

    Args:
      sink: Where the parts are.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def expand(
        self, stems: beam.pvalue.PCollection[str]
    ) -> beam.pvalue.PCollection[PartTotals]:
        output = self._sink.output

        def read(stem: str) -> PartTotals:
            return read_totals(output, stem)

        return stems | beam.Map(read)


class Summarize(beam.CombineFn):
    """Adds up parts to what `summary.json` says, a dict ready for JSON.

    `shards`, `parts`, `images`, `good`, `bad`; `errors`, the bad images by error; and
    `manifest`, by stem a part's first row, end row, good rows, bad rows and digest.
    """

    def create_accumulator(self) -> list[PartTotals]:
        return []

    def add_input(self, parts: list[PartTotals], part: PartTotals) -> list[PartTotals]:
        parts.append(part)
        return parts

    def merge_accumulators(
        self, accumulators: Iterable[list[PartTotals]]
    ) -> list[PartTotals]:
        return [part for parts in accumulators for part in parts]

    def extract_output(self, parts: list[PartTotals]) -> dict[str, Any]:
        return summary_of(parts)


def summary_of(parts: Iterable[PartTotals]) -> dict[str, Any]:
    """What `summary.json` says of parts; the same whatever their order."""
    parts = sorted(parts, key=lambda part: part.stem)
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(dict(part.errors))
    good = sum(part.good for part in parts)
    return {
        "shards": sum(part.last for part in parts),
        "parts": len(parts),
        "images": good + errors.total(),
        "good": good,
        "bad": errors.total(),
        "errors": dict(sorted(errors.items())),
        "manifest": {
            part.stem: [part.first_row, part.end_row, part.good, part.bad, part.digest]
            for part in parts
        },
    }
