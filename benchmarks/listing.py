"""What a start costs for many objects: `python -m benchmarks.listing`.

The listing is simulated: a store's answers are made up as they are asked for. What
follows is real: shards are made of them, planned against an empty output and against
one that has half of them, and put into the graph, which is then written as a runner
gets it. Of the tar shards one in a hundred has been begun; their footers, and those of
the groups of images that are done, are answered by a simulated store, each after 20 ms.
Seconds are the processor's, as others may use the machine; where the plan waits for
footers, the clock's too. Each size is a process of its own; memory is the most that it
held.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
import typing
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

if typing.TYPE_CHECKING:
    from transforms import Shard, Shards

_KINDS = {"images": "jpg", "tar": "tar"}
_SMALLER = (100, 10)
_COLUMNS = ("list", "plan", "plan half", "build", "proto")
_FOOTER_SECONDS = 0.02


def main() -> None:
    """Measures a number of objects, a tenth and a hundredth of it; prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.listing", description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(_measure(args.one[0], int(args.one[1]))))
        return
    table = Table("objects", "kind", "shards")
    for name in (*_COLUMNS, "footers", "by the clock", "proto, MB", "memory, MB"):
        table.add_column(name, justify="right")
    for kind in _KINDS:
        for divisor in (*_SMALLER, 1):
            count = args.objects // divisor
            found = _in_a_process(kind, count)
            table.add_row(
                f"{count:,}",
                kind,
                f"{found['shards']:,.0f}",
                *(f"{found[column]:.2f}" for column in _COLUMNS),
                f"{found['footers']:,.0f}",
                f"{found['wait']:.1f}",
                f"{found['proto_mb']:.1f}",
                f"{found['memory_mb']:.0f}",
            )
    Console(width=120).print(table)
    print("seconds of the processor; by the clock: of `plan half`, with its footers")
    print(f"memory: the most above the {found['before_mb']:.0f} MB of the imports")
    print("floor: a million of these URIs are 34 MB; with sizes and times, 58 MB")


def _in_a_process(kind: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.listing", "--one", kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(kind: str, count: int) -> dict[str, float]:
    import apache_beam as beam

    from pipeline import graph
    from pipeline.plan import make_plan
    from transforms.listing import list_shards
    from transforms.strings import Strings

    found: dict[str, float] = {"before_mb": _memory_mb()}
    clock = _Clock(found)
    listing = list_shards(
        ["gs://bucket/data/**"], match=lambda _: _objects(count, _KINDS[kind])
    )
    clock.lap("list")
    found["shards"] = len(listing.shards)
    job = _job(listing)

    store = _Footers()

    def plan(stems: Strings) -> "graph.Plan":
        return make_plan(
            listing.shards,
            good_stems=stems,
            bad_stems=(),
            rows_per_part=job.cut.part,
            read_members=store.read_members,
            read_resume_at=store.read_resume_at,
        )

    clock.lap()
    plan(Strings())
    clock.lap("plan")
    done = Strings(_half_done(listing.shards, store))
    clock.lap()
    began = time.perf_counter()
    half = plan(done)
    found["wait"] = time.perf_counter() - began
    clock.lap("plan half")
    found["footers"] = store.read
    pipeline = beam.Pipeline(runner="FnApiRunner")
    graph.build(pipeline, job, half)
    clock.lap("build")
    found["proto_mb"] = pipeline.to_runner_api().ByteSize() / 1e6
    clock.lap("proto")
    found["memory_mb"] = _memory_mb() - found["before_mb"]
    return found


class _Footers:
    """A store that answers for parts, each after a while.

    Attributes:
      groups: By the stem of a part that is all of a group.
      read: How often it was asked.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Shard] = {}
        self.read = 0

    def read_members(self, stem: str) -> dict[str, str]:
        """The files of a part, and their versions."""
        self._wait()
        return {file.key: file.version for file in self.groups[stem].files}

    def read_resume_at(self, stem: str) -> int:
        """Where the next part begins."""
        self._wait()
        return 1 << 29

    def _wait(self) -> None:
        time.sleep(_FOOTER_SECONDS)
        self.read += 1


def _half_done(shards: "Shards", store: _Footers) -> Iterator[str]:
    """Names of the parts of every second shard, and of the first of some others."""
    for number, shard in enumerate(shards):
        if number % 2 == 0:
            stem = f"{shard.name}-{0:010d}-last"
            if shard.format == "files":
                store.groups[stem] = shard
            yield stem
        elif number % 100 == 1 and shard.format != "files":
            yield f"{shard.name}-{0:010d}"


class _Clock:
    """Times laps into a dict, in seconds of the processor."""

    def __init__(self, found: dict[str, float]) -> None:
        self._found, self._last = found, time.process_time()

    def lap(self, name: str = "") -> None:
        """Ends a lap; one without a name counts for nothing."""
        now = time.process_time()
        if name:
            self._found[name] = now - self._last
        self._last = now


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _objects(count: int, suffix: str) -> Iterator[object]:
    """What a store lists: names in order, sizes and times as they come."""
    from apache_beam.io.filesystem import FileMetadata

    chance, updated = random.Random(1), 1.7e9
    for number in range(count):
        updated += chance.randrange(1, 200) / 1000
        name = f"gs://bucket/data/{number // 1000:04d}/{number:08d}.{suffix}"
        yield FileMetadata(name, chance.randrange(20_000, 200_000), updated)


def _job(listing: object) -> "object":
    from pipeline.job import Job
    from transforms import Columns, Cut, Models, Outputs, Preprocess, describe_model
    from transforms.bit import ModelSpec

    spec = ModelSpec("random:R50x1")
    return Job(
        listing=listing,
        columns=Columns(),
        cut=Cut(16, 4096),
        preprocess=Preprocess(sizes=(224,)),
        models=Models(spec),
        infos=(describe_model(spec),),
        outputs=Outputs(),
        output="gs://bucket/out",
    )


if __name__ == "__main__":
    main()
