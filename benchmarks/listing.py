"""What a start costs for many objects: `python -m benchmarks.listing`.

The listing is simulated: a store's answers are made up as they are asked for. What
follows is real: shards are made of them, planned against an empty output and against
one that has half of them, and put into the graph, which is then written as a runner
gets it. Each size is a process of its own; memory is the most that it held.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

_KINDS = {"images": "jpg", "tar": "tar"}
_SMALLER = (100, 10)
_COLUMNS = ("list", "plan", "plan half", "build", "proto")


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
    for name in (*(f"{column}, s" for column in _COLUMNS), "proto, MB", "memory, MB"):
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
                f"{found['proto_mb']:.1f}",
                f"{found['before_mb']:.0f} + {found['memory_mb']:.0f}",
            )
    Console(width=120).print(table)
    print("memory: what the imports hold, and what the work adds to it at most")


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

    found: dict[str, float] = {"before_mb": _memory_mb()}
    clock = _Clock(found)
    listing = list_shards(
        ["gs://bucket/data"], match=lambda _: _objects(count, _KINDS[kind])
    )
    clock.lap("list")
    found["shards"] = len(listing.shards)
    job = _job(listing)

    def plan(stems: list[str]) -> "graph.Plan":
        return make_plan(
            listing.shards,
            good_stems=stems,
            bad_stems=(),
            rows_per_part=job.cut.part,
            read_members=lambda stem: {},
            read_resume_at=lambda stem: None,
        )

    clock.lap()
    whole = plan([])
    clock.lap("plan")
    done = [f"{shard.name}-{0:010d}-last" for shard in listing.shards[::2]]
    clock.lap()
    half = plan(done if kind == "tar" else [])
    clock.lap("plan half")
    pipeline = beam.Pipeline(runner="FnApiRunner")
    graph.build(pipeline, job, whole if kind == "images" else half)
    clock.lap("build")
    found["proto_mb"] = pipeline.to_runner_api().ByteSize() / 1e6
    clock.lap("proto")
    found["memory_mb"] = _memory_mb() - found["before_mb"]
    return found


class _Clock:
    """Times laps into a dict."""

    def __init__(self, found: dict[str, float]) -> None:
        self._found, self._last = found, time.perf_counter()

    def lap(self, name: str = "") -> None:
        """Ends a lap; one without a name counts for nothing."""
        now = time.perf_counter()
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
