"""What each way of running Beam gives: `python -m benchmarks.conformance`.

Every cell is a run of `bitbeam run` that has ended. Each mode's workers make the table
alone, then finish what the mode above has begun, then meet a part that is damaged.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.cli import main as bitbeam
from tests import outputs, runners, tables
from transforms import metrics

_IMAGES = 58
_COLUMNS = ("files", "errors", "totals", "verify", "resume", "failure")


@dataclass(frozen=True)
class Outcome:
    """What a command came to.

    Attributes:
      code: Its exit code.
      last: Its result, or the error.
      here: Whether this process did the work.
    """

    code: int
    last: str
    here: bool


def main() -> None:
    """Runs all modes and prints the table; exit code 1 if a cell is not `yes`."""
    parser = argparse.ArgumentParser(prog="benchmarks.conformance", description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=[m.name for m in runners.MODES])
    args = parser.parse_args()
    chosen = [
        mode for mode in runners.MODES if args.modes is None or mode.name in args.modes
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows = _try_all(chosen, Path(folder))
    _print(rows)
    sys.exit(not all(cell == "yes" for row in rows for cell in row[2:-1]))


def _try_all(modes: Sequence[runners.Mode], folder: Path) -> list[tuple[str, ...]]:
    source = tables.write_shards(folder / "in")
    labels = folder / "names.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(1000)))
    options = (*tables.RUN, "--labels", str(labels))
    reference = folder / "reference"
    with runners.started(runners.mode("in_memory")) as beam:
        _run(reference, source, options=(*options, *beam))
    rows, before = [], reference
    for mode in modes:
        print(f"{mode.name} ...", file=sys.stderr, flush=True)
        with runners.started(mode) as beam:
            trial = _Trial(folder / mode.name, source, (*options, *beam))
            rows.append(trial.row(mode, reference=reference, before=before))
        before = trial.whole
    return rows


@dataclass(frozen=True)
class _Trial:
    """One mode's runs, below a folder."""

    folder: Path
    source: Path
    options: tuple[str, ...]

    @property
    def whole(self) -> Path:
        return self.folder / "whole"

    def row(
        self, mode: runners.Mode, *, reference: Path, before: Path
    ) -> tuple[str, ...]:
        """The cells of a mode, of which another has made `before`."""
        start = time.monotonic()
        outcome = _run(self.whole, self.source, options=self.options)
        seconds = time.monotonic() - start
        cells = [
            outcome.code == 0 and outputs.files(self.whole) == outputs.files(reference),
            outputs.errors(self.whole) == outputs.errors(reference),
            outcome.last.startswith(f"bitbeam: done: {_IMAGES} images in "),
            _verify(self.whole, self.source),
            self._resumes(before, reference=reference),
            self._tells(before),
        ]
        place = "here" if outcome.here else "elsewhere"
        answers = ("yes" if cell else "NO" for cell in cells)
        return (mode.name, place, *answers, f"{seconds:.0f}")

    def _resumes(self, before: Path, *, reference: Path) -> bool:
        output = Path(shutil.copytree(before, self.folder / "resumed"))
        gone = runners.halve(output)
        outcome = _run(output, self.source, options=self.options)
        only_the_rest = outcome.last.startswith(f"bitbeam: done: {gone} images in ")
        same = outputs.files(output) == outputs.files(reference)
        return outcome.code == 0 and only_the_rest and same

    def _tells(self, before: Path) -> bool:
        """Whether a part that is damaged ends the job in one line that names it."""
        output = Path(shutil.copytree(before, self.folder / "damaged"))
        part = tables.tables(output, "embeddings")[0]
        part.write_bytes(part.read_bytes()[:-1])
        outcome = _run(output, self.source, options=self.options)
        return outcome.code == 1 and str(part) in outcome.last


def _run(output: Path, source: Path, *, options: tuple[str, ...]) -> Outcome:
    before = metrics.tally().get("images_read", 0)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = tables.run(output, source, options=options)
    # What bound the run comes after the result.
    [last] = out.getvalue().splitlines()[:1] or err.getvalue().splitlines()[-1:]
    return Outcome(code, last, metrics.tally().get("images_read", 0) > before)


def _verify(output: Path, source: Path) -> bool:
    with contextlib.redirect_stdout(io.StringIO()):
        return bitbeam(["verify", str(output), "--input", str(source)]) == 0


def _print(rows: Sequence[Sequence[str]]) -> None:
    table = Table("mode", "work done", *_COLUMNS, "s")
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)
    print(
        "files: byte for byte those of in_memory; errors: the same table of bad images;"
        "\ntotals: the last line has all images; verify: passes, with --input; resume:"
        " of the half\nthat the mode above has made; failure: a damaged part ends the"
        " job in a line that names it"
    )


if __name__ == "__main__":
    main()
