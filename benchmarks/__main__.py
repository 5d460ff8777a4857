"""Measures and prints everything, with the ceiling and the peers beside it.

    python -m benchmarks [--only NAME ...] [--list] [--rounds N] [--quick]

Writes `benchmarks/results/<device>-<model>-<precision>-<size>.json`. Measure on a
machine that does nothing else.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from . import report, rows
from .contest import Contest, Outcome, hold
from .machine import Machine
from .settings import Settings

RESULTS = Path(__file__).parent / "results"
_WIDTH = 132
"""Characters that the table needs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Holds the contests; 0 if all that were asked for have a figure."""
    args = _parser().parse_args(argv)
    machine = Machine.here()
    with tempfile.TemporaryDirectory(prefix="bitbeam-bench-") as folder:
        settings = _settings(args, machine, Path(folder))
        chosen = choose(rows.contests(settings), only=args.only)
        if args.list:
            for contest in chosen:
                print(f"{contest.name}: {contest.title}")
            return 0
        if machine.is_busy and not (args.anyway or args.quick):
            sys.exit(
                f"load average is {machine.load:.2f}: wait until nothing else runs, or "
                "give --anyway"
            )
        # How the model runs best is measured anew: what is kept may be of a busy hour.
        os.environ.setdefault("BITBEAM_CACHE", str(settings.folder / "cache"))
        results = args.results or (None if args.quick else RESULTS)
        return measure(
            chosen, machine, rounds=1 if args.quick else args.pairs, results=results
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="rows; NAME* is all that begin so")
    add("--list", action="store_true", help="the rows, measured or not")
    add("--pairs", type=int, default=9, help="rounds of laps in turns (%(default)s)")
    add("--quick", action="store_true", help="tiny: only to see that all works")
    add("--batch_size", type=int, help="images of a step; by the device if missing")
    add("--peers_python", default=sys.executable, help="has the extra `peers`")
    add("--results", type=Path, help=f"folder ({RESULTS}; with --quick: none)")
    add("--anyway", action="store_true", help="measure though the machine is busy")
    return parser


def _settings(args: argparse.Namespace, machine: Machine, folder: Path) -> Settings:
    settings = Settings(machine, folder, peers_python=args.peers_python)
    if machine.gpu:
        settings = replace(settings, batch_size=256)
    if args.quick:
        tiny = replace(settings, quick=True, model="random:R14x1:100", image_size=64)
        settings = replace(tiny, batch_size=4)
    if args.batch_size:
        settings = replace(settings, batch_size=args.batch_size)
    return settings


def choose(contests: Sequence[Contest], *, only: Sequence[str] | None) -> list[Contest]:
    """Those that were asked for, in their own order."""
    if only is None:
        return list(contests)
    chosen = []
    for pattern in only:
        found = [one for one in contests if _is_named(one.name, pattern)]
        if not found:
            names = ", ".join(one.name for one in contests)
            sys.exit(f"no row is named {pattern!r}: give some of {names}")
        chosen += found
    return [one for one in contests if one in chosen]


def _is_named(name: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


def measure(
    contests: Sequence[Contest],
    machine: Machine,
    *,
    rounds: int,
    results: Path | None,
) -> int:
    """Holds contests, prints what they came to, and writes it to a folder.

    Ctrl-C keeps what was measured until then.

    Returns:
      0: all have a figure; 1: some have none; 130: interrupted.
    """
    outcomes: list[Outcome] = []
    code = 0
    try:
        for contest in contests:
            outcomes.append(Outcome(contest))
            hold(outcomes[-1], rounds=rounds)
            if results:
                report.write(outcomes[-1:], machine, results)
    except KeyboardInterrupt:
        code = 130
    # Piped, it would be 80.
    console = Console(width=max(_WIDTH, Console().width))
    report.show(outcomes, machine, console)
    for path in report.write(outcomes, machine, results) if results else ():
        print(path)
    return code or int(not all(outcome.figures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
