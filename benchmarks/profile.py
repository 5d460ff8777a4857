"""Where the time of a step goes, before and after: `python -m benchmarks.profile`.

Before: the network as a SavedModel of the published form, called as it is. After: ours.
TensorFlow's own profiler times every operation; the table has milliseconds of a core
for a batch by type of operation, and their share. On a CPU both run on one thread, so
that no two operations run beside each other and times add up; ours runs so anyway, a
stream for each core. On a GPU it is kernels that are timed; it was not run on one.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from . import ours
from .peers import saved_model
from .pictures import pictures
from .side import python

BEFORE, AFTER = "before", "after"

Step = Callable[[np.ndarray], Any]

_OPERATION = re.compile(r"[^:\s]+:(?:_Mkl(?:Native)?|_)?([A-Z]\w*)")
"""As in `unit01/Conv2D_3:_MklNativeConv2D`, of which the type is `Conv2D`."""

_XLA = "CpuExecutable::ExecuteAsyncOnStream"
"""What XLA has compiled for a CPU: the scale, shift and ReLU of a group norm, say."""

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
"""Whose time is that of the operations within."""


def main() -> None:
    """Profiles both and prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.profile")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--side", choices=[BEFORE, AFTER], help=argparse.SUPPRESS)
    args = ours.add_options(parser).parse_args()
    if args.side:
        print(json.dumps(_profile_one(args)))
        return
    before, after = (_elsewhere(side) for side in (BEFORE, AFTER))
    title = f"{args.model}, {args.image_size} px, {args.batch_size} images"
    table = Table("operation", title=f"{title}: ms of a core for a batch")
    for column in ("SavedModel as it is", f"bitbeam {args.precision}"):
        table.add_column(column, justify="right")
    for row in rows(before, after, most=args.rows):
        table.add_row(*row)
    Console().print(table)


def _elsewhere(side: str) -> dict[str, float]:
    # In a process of its own: threads are set once in a process, and not alike.
    command = python("benchmarks.profile", *sys.argv[1:], "--side", side)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _profile_one(args: argparse.Namespace) -> dict[str, float]:
    from transforms.bit.runtime import set_threads, tf

    set_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    step = _saved_model(args.model) if args.side == BEFORE else _ours(args)
    images = pictures(args.batch_size, args.image_size)
    return profile(step, images, steps=args.steps)


def _ours(args: argparse.Namespace) -> Step:
    args.tune, args.threads = "no", 1
    return ours.load(args)


def _saved_model(model: str) -> Step:
    with tempfile.TemporaryDirectory() as folder:
        saved_model.write(model, Path(folder))
        return saved_model.load(Path(folder))


def profile(step: Step, images: np.ndarray, *, steps: int) -> dict[str, float]:
    """Milliseconds a step by type of operation; `whole step` is the clock's."""
    from transforms.bit.runtime import tf

    for _ in range(2):
        step(images)
    began = time.perf_counter()
    for _ in range(steps):
        step(images)
    # Without the profiler, which costs something itself.
    whole = (time.perf_counter() - began) / steps
    times: Counter[str] = Counter({"whole step": whole * 1e3})
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step(images)
        for path in Path(folder).rglob("*.xplane.pb"):
            for kind, picoseconds in operations(path):
                times[kind] += picoseconds / 1e9 / steps
    return dict(times)


def operations(path: Path) -> Iterator[tuple[str, int]]:
    """Type and picoseconds of each operation in a profile of TensorFlow's."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    on_gpu = any(plane.name.startswith("/device:GPU") for plane in space.planes)
    for plane in space.planes:
        if plane.name.startswith("/device:GPU") != on_gpu:
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                found = _OPERATION.fullmatch(name)
                if on_gpu:
                    yield name.partition("(")[0][:60], event.duration_ps
                elif name == _XLA:
                    yield "compiled by XLA", event.duration_ps
                elif found and found[1] not in _CALLS:
                    yield found[1], event.duration_ps


def rows(
    before: dict[str, float], after: dict[str, float], *, most: int
) -> Iterator[tuple[str, str, str]]:
    """The rows of the table, those of the largest time first, the clock's last."""
    kinds = sorted(
        (before.keys() | after.keys()) - {"whole step"},
        key=lambda kind: -max(before.get(kind, 0), after.get(kind, 0)),
    )
    for kind in kinds[:most]:
        yield kind, _cell(before, [kind]), _cell(after, [kind])
    if kinds[most:]:
        rest = f"{len(kinds) - most} others"
        yield rest, _cell(before, kinds[most:]), _cell(after, kinds[most:])
    yield "all operations", _cell(before, kinds), _cell(after, kinds)
    clock = (f"{times['whole step']:.1f}" for times in (before, after))
    yield ("whole step, not profiled", *clock)


def _cell(times: dict[str, float], kinds: list[str]) -> str:
    part = sum(times.get(kind, 0) for kind in kinds)
    whole = sum(times.values()) - times["whole step"]
    return f"{part:.1f}  {part / whole if whole else 0:4.0%}" if part else ""


if __name__ == "__main__":
    main()
