"""Kills runs at random instants, resumes them, and compares with one left in peace.

    python -m benchmarks.chaos [--kills 100] [--seed 0] [--folder FOLDER]

Shards of all formats, bad images among the good. Every other output is one whose input
has changed: a shard is another, a file too, a file is new, a shard is gone. After each
kill `bitbeam verify --unfinished` must pass; when a run has got to its end, `bitbeam
verify` must, and all files must be, byte for byte, those of a run that nobody killed.
What is killed, by SIGKILL, is a process of its own, forked off one that has only done
the imports, as these take longer than the run.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.chaos_source import Source
from pipeline.cli import main as bitbeam
from tests import outputs

ROOT = Path(__file__).parent.parent
MODEL = ("--model", "random:R14x1:1000", "--image_size", "64", "--batch_size", "4")
RUN = (*MODEL, "--rows_per_part", "8")

_SERVER = """\
import os, signal, sys, tensorflow, pipeline.graph, pipeline.launch, pipeline.run
from pipeline.cli import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for stream in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        os._exit(main(line.rstrip("\\n").split("\\0")))
    print(pid, flush=True)
"""
"""Forks a run for each line of arguments; tells its number."""

_LIMIT = 120.0
"""Seconds that no run may take."""


@dataclass
class Report:
    """What happened.

    Attributes:
      kills: By what the output looked like then.
      outputs: How many were driven to their end.
      compared: Files whose bytes were compared.
      verified: How often `bitbeam verify` has passed.
      failures: What went wrong, a line each.
    """

    kills: Counter[str] = field(default_factory=Counter)
    outputs: int = 0
    compared: int = 0
    verified: int = 0
    failures: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="stays; a temporary one if missing")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        began = time.monotonic()
        report = torment(folder, kills=args.kills, seed=args.seed)
    Console().print(_table(report, seconds=time.monotonic() - began))
    for failure in report.failures:
        print(failure)
    return 1 if report.failures else 0


def _table(report: Report, *, seconds: float) -> Table:
    table = Table(title=f"{report.kills.total()} kills in {seconds:.0f} s")
    table.add_column("what")
    table.add_column("count", justify="right")
    for state, kills in report.kills.most_common():
        table.add_row(f"killed {state}", str(kills))
    table.add_section()
    table.add_row("outputs driven to their end", str(report.outputs))
    table.add_row("files compared byte for byte", str(report.compared))
    table.add_row("verify passed", str(report.verified))
    table.add_row("failures", str(len(report.failures)))
    return table


def torment(folder: Path, *, kills: int, seed: int, pictures: int = 100) -> Report:
    """Kills runs until there were so many kills, and the last is at its end.

    Args:
      folder: Where inputs and outputs go.
      kills: How many.
      seed: Of the instants.
      pictures: In each of the shards.
    """
    dice, report = random.Random(seed), Report()
    source = Source(folder / "in", pictures)
    whole: dict[int, Whole] = {}
    with Runs() as runs:
        for version in (1, 2):
            output = _begin(folder, f"whole-{version}", source, version=version)
            whole[version] = undisturbed(source.path, output, report)
        while report.kills.total() < kills:
            version = report.outputs % 2 + 1
            name = f"killed-{report.outputs}"
            output = _begin(folder, name, source, version=version)
            most = min(dice.randint(2, 10), kills - report.kills.total())
            drive(
                source.path,
                output,
                runs,
                report,
                kills=most,
                whole=whole[version],
                dice=dice,
            )
            report.outputs += 1
            shutil.rmtree(output)
    return report


def _begin(folder: Path, name: str, source: Source, *, version: int) -> Path:
    """An output in which a run on a version of the input may begin."""
    source.become(version)
    if version == 2:
        shutil.copytree(folder / "whole-1", folder / name)
    return folder / name


class Runs:
    """Starts runs, each in a process of its own, whose imports are done."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *error: object) -> None:
        self._server.kill()
        self._server.communicate()

    def start(self, source: Path, output: Path) -> "Run":
        """Lets a run go."""
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write("\0".join(command(source, output)).encode() + b"\n")
        self._server.stdin.flush()
        return Run(int(self._server.stdout.readline()))


@dataclass(frozen=True)
class Run:
    """The process of a run."""

    pid: int

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        """Kills it and waits for its end; whether it was alive."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        while self.is_alive:
            time.sleep(0.001)
        return True

    def wait(self, ready: Callable[[], bool]) -> None:
        """Waits until something is so, or the process has ended."""
        deadline = time.monotonic() + _LIMIT
        while self.is_alive and not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"a run takes more than {_LIMIT} s")
            time.sleep(0.001)


def command(source: Path, output: Path) -> list[str]:
    """The arguments of a run."""
    return ["run", *RUN, "--input", str(source), "--output", str(output)]


@dataclass(frozen=True)
class Whole:
    """An output that nobody has disturbed.

    Attributes:
      files: Its files.
      new: How many parts the run has written.
      start: Seconds to the first of them.
      seconds: From the first to the end.
    """

    files: dict[str, bytes]
    new: int
    start: float
    seconds: float

    @property
    def parts(self) -> set[str]:
        """Its embeddings files."""
        return {name for name in self.files if name.startswith("embeddings/")}


def undisturbed(source: Path, output: Path, report: Report) -> Whole:
    """Runs to the end."""
    before = _parts(output)
    began = time.time()
    end(source, output, report)
    ended = time.time()
    new = _parts(output) - before
    first = min((output / name).stat().st_mtime for name in new)
    return Whole(outputs.files(output), len(new), first - began, ended - first)


def _parts(output: Path) -> set[str]:
    return {f"embeddings/{path.name}" for path in output.glob("embeddings/*.parquet")}


def end(source: Path, output: Path, report: Report) -> None:
    """Runs to the end, in this process."""
    code, said = _quietly(command(source, output))
    if code:
        report.failures.append(f"{output}: exit code {code}: {said}")
    _verify(output, report)


def _quietly(arguments: list[str]) -> tuple[int, str]:
    """A command's exit code and its last line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = bitbeam(arguments)
    return code, printed.getvalue().strip().rpartition("\n")[-1]


def _verify(output: Path, report: Report, *options: str) -> None:
    code, said = _quietly(["verify", str(output), *options])
    if code:
        report.failures.append(f"{output}: verify {' '.join(options)}: {said}")
    else:
        report.verified += 1


def drive(
    source: Path,
    output: Path,
    runs: Runs,
    report: Report,
    *,
    kills: int,
    whole: Whole,
    dice: random.Random,
) -> None:
    """Kills runs on one output so often, unless one ends before; then lets one end."""
    for _ in range(kills):
        before = _parts(output)
        run = runs.start(source, output)
        _wait_for_instant(output, run, before, whole=whole, dice=dice)
        if not run.kill():
            break
        report.kills[_state(output, before, whole)] += 1
        if (output / "run.json").exists():
            _verify(output, report, "--unfinished")
    end(source, output, report)
    found = outputs.files(output)
    report.compared += len(found)
    for name in sorted(found.keys() | whole.files.keys()):
        if found.get(name) != whole.files.get(name):
            report.failures.append(f"{output}/{name}: not as in an undisturbed run")


def _wait_for_instant(
    output: Path,
    run: Run,
    before: set[str],
    *,
    whole: Whole,
    dice: random.Random,
) -> None:
    """Waits for an instant at random, of all or of the rarer ones."""
    left = whole.seconds * len(whole.parts - before) / whole.new
    kind = dice.random()
    if kind < 0.15:  # also while it plans, or loads the model
        time.sleep(dice.uniform(0, whole.start + whole.seconds))
    elif kind < 0.3:
        run.wait(lambda: any(output.glob("*/.*.partial")))
    elif kind < 0.45:
        run.wait(lambda: _parts(output) >= whole.parts)
        time.sleep(dice.uniform(0, 0.1))
    else:
        run.wait(lambda: not _parts(output) <= before)
        time.sleep(dice.uniform(0, left))


def _state(output: Path, before: set[str], whole: Whole) -> str:
    """What an output looks like whose run was killed."""
    parts = _parts(output)
    if not (output / "run.json").exists():
        return "before run.json was written"
    if any(output.rglob(".*.partial")):
        return "in the middle of a write"
    if outputs.files(output) == whole.files:
        return "after all was done"
    if parts >= whole.parts:
        return "between the last part and the summary"
    if any(f"embeddings/{path.name}" not in parts for path in output.glob("errors/*")):
        return "between the two files of a part"
    return "between two parts" if parts - before else "before its first part"


if __name__ == "__main__":
    sys.exit(main())
