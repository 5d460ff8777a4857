"""What it costs to lose nothing: `python -m benchmarks.overhead`.

Pairs of runs of the same job, one as it is and one with everything taken out that
guards it: the model called bare, no digests, no retries, no watch for bad streaks, no
sync of files to the disk. Each run is a process of its own; the pairs alternate.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from . import photographs


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.overhead", description=__doc__)
    parser.add_argument("--model", default="random:R50x1")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rows_per_part", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--bare", metavar="JSON", help=argparse.SUPPRESS)
    parser.add_argument("--guarded", metavar="JSON", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare or args.guarded:
        _run_one(json.loads(args.bare or args.guarded), bare=bool(args.bare))
        return
    with tempfile.TemporaryDirectory() as folder:
        _print(_measure(args, Path(folder)), args)


def _measure(args: argparse.Namespace, folder: Path) -> list[tuple[float, float]]:
    photographs.write_tar(folder / "in.tar", images=args.images)
    pairs = []
    for number in range(args.pairs):
        times = {}
        # Who goes first alternates too.
        for kind in ("guarded", "bare")[:: 1 if number % 2 else -1]:
            job = _arguments(args, folder, name=f"{kind}-{number}")
            command = [sys.executable, "-m", "benchmarks.overhead"]
            done = subprocess.run(
                [*command, f"--{kind}", json.dumps(job)],
                capture_output=True,
                text=True,
                check=True,
            )
            times[kind] = float(done.stdout.splitlines()[-1])
        pairs.append((times["guarded"], times["bare"]))
    return pairs


def _arguments(args: argparse.Namespace, folder: Path, *, name: str) -> list[str]:
    return [
        *("run", "--input", str(folder / "in.tar"), "--model", args.model),
        *("--output", str(folder / name)),
        *("--rows_per_part", str(args.rows_per_part)),
    ]


def _run_one(arguments: list[str], *, bare: bool) -> None:
    """One run in this process; prints the seconds from the first block to the end."""
    from transforms import device

    if bare:
        _strip()
    began: list[float] = []
    submit = device.Device.submit

    def watched(self: device.Device, block: Any) -> Any:
        began.append(time.perf_counter())
        return submit(self, block)

    device.Device.submit = watched  # type: ignore[method-assign]
    from pipeline.cli import main as bitbeam

    code = bitbeam(arguments)
    seconds = time.perf_counter() - began[0]
    if code:
        sys.exit(code)
    print(seconds)


def _strip() -> None:
    """Takes out what guards a run."""
    import os

    from transforms import device, parquet, retry, streak
    from transforms.guard import Outcome

    class Bare:
        def __init__(self, model: Any) -> None:
            self._model = model
            self.info, self.checks = model.info, model.checks

        def __call__(self, images: np.ndarray) -> Outcome:
            return Outcome(np.arange(len(images)), self._model(images), {}, 0)

    device.GuardedPredictor = Bare  # type: ignore[assignment,misc]
    no_digest = SimpleNamespace(hexdigest=lambda: "0" * 64, update=lambda content: None)
    parquet.hashlib = SimpleNamespace(sha256=lambda content=b"": no_digest)
    retry.call = lambda work, **_: work()  # type: ignore[assignment]
    streak.BadStreak.add = lambda self, block: None  # type: ignore[method-assign]
    os.fsync = lambda descriptor: None  # type: ignore[assignment]


def _print(pairs: list[tuple[float, float]], args: argparse.Namespace) -> None:
    ratios = [guarded / bare for guarded, bare in pairs]
    table = Table("pair", "guarded, s", "bare, s", "ratio")
    for number, (guarded, bare) in enumerate(pairs):
        ratio = f"{guarded / bare:.4f}"
        table.add_row(str(number), f"{guarded:.2f}", f"{bare:.2f}", ratio)
    Console().print(table)
    print(
        f"{args.model}, {args.images} images in parts of {args.rows_per_part}: median"
        f" ratio {statistics.median(ratios):.4f}, from {min(ratios):.4f} to"
        f" {max(ratios):.4f}"
    )


if __name__ == "__main__":
    main()
