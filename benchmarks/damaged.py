"""Thousands of damaged images among good ones, through the real `bitbeam run`.

    python -m benchmarks.damaged [--images 2000] [--seed 0] [--folder FOLDER]

Photographs in every encoding that is read, each spoiled in one of MUTATIONS, every
third row a good one, as tar shards. Nothing may crash or hang; each good neighbour must
be in the table with its digest, each damaged one in exactly one of the two tables; and
the memory must stay near that of a run on as many good images.
"""

import argparse
import contextlib
import hashlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.cli import main as bitbeam
from tests import outputs, photos, shards
from transforms.image import DecodeError, Preprocess, decode_image

ROOT = Path(__file__).parent.parent
SIDE = 64
RUN = (
    "--model",
    "random:R14x1:1000",
    "--image_size",
    str(SIDE),
    "--max_error_rate",
    "1",
)
_ROWS_PER_SHARD = 600
_SECONDS_PER_IMAGE = 0.5
_START = 120.0
"""Seconds that a run may take before its first image, on a busy machine."""

ERRORS = {
    *("empty_image", "not_an_image", "truncated_image", "corrupt_image"),
    *("too_large", "unsupported_image"),
}


@dataclass(frozen=True)
class Photo:
    """A photograph, encoded."""

    kind: str
    width: int
    height: int
    data: bytes


Mutation = Callable[[Photo, Photo, random.Random], bytes]
"""Spoils a photo; gets another one too."""


def _flip(data: bytes, at: Iterator[int], dice: random.Random) -> bytes:
    spoiled = bytearray(data)
    for offset in at:
        spoiled[offset] ^= 1 << dice.randrange(8)
    return bytes(spoiled)


def flip_some(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """A few bits anywhere."""
    size = len(photo.data)
    return _flip(
        photo.data, (dice.randrange(size) for _ in range(dice.randint(1, 8))), dice
    )


def flip_many(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """One byte in a hundred."""
    size = len(photo.data)
    return _flip(
        photo.data, (dice.randrange(size) for _ in range(size // 100 + 1)), dice
    )


def flip_head(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """A few bits of the first 64 bytes."""
    size = min(64, len(photo.data))
    return _flip(
        photo.data, (dice.randrange(size) for _ in range(dice.randint(1, 4))), dice
    )


def truncate(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """The end is missing."""
    return photo.data[: dice.randrange(len(photo.data))]


def splice(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """Begins as another image."""
    at = dice.choice([4, 8, 16, 64, 512])
    return other.data[:at] + photo.data[at:]


def insert(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """Random bytes in the middle."""
    at = dice.randrange(len(photo.data))
    return photo.data[:at] + dice.randbytes(dice.randint(1, 300)) + photo.data[at:]


def delete(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """Bytes of the middle are missing."""
    at = dice.randrange(len(photo.data))
    return photo.data[:at] + photo.data[at + dice.randint(1, 300) :]


def random_tail(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """Ends in random bytes."""
    at = dice.randrange(len(photo.data))
    return photo.data[:at] + dice.randbytes(len(photo.data) - at)


def zeros(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """A page that was never written."""
    at = dice.randrange(len(photo.data))
    size = min(dice.choice([64, 512, 4096]), len(photo.data) - at)
    return photo.data[:at] + bytes(size) + photo.data[at + size :]


def absurd_size(photo: Photo, other: Photo, dice: random.Random) -> bytes:
    """The header says another width or height, up to the largest that it can."""
    spoiled = bytearray(photo.data)
    for number in (photo.width, photo.height):
        largest = dice.choice([0, 1, 9_999, 30_000, 65_535, 2**31 - 1, 2**32 - 1])
        for width, order in ((4, "big"), (4, "little"), (2, "big"), (2, "little")):
            old = number.to_bytes(width, order)  # type: ignore[arg-type]
            at = bytes(spoiled[:4096]).find(old)
            if at >= 0:
                new = min(largest, 256**width - 1)
                spoiled[at : at + width] = new.to_bytes(width, order)  # type: ignore[arg-type]
                break
    if photo.kind.startswith(("png", "apng")):
        spoiled[29:33] = photos._crc(bytes(spoiled[12:29]))
    return bytes(spoiled)


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_some, flip_many, flip_head, truncate, splice, absurd_size),
    *(insert, delete, random_tail, zeros),
)


@dataclass(frozen=True)
class Row:
    """What is at one place of the shards.

    Attributes:
      data: The encoded image.
      mutation: What was done to it; empty: it is good.
    """

    data: bytes
    mutation: str = ""


def encode_all(dice: random.Random) -> list[Photo]:
    """A photograph in each encoding."""
    made = []
    for kind in photos.KINDS:
        width, height = dice.randrange(130, 250, 2), dice.randrange(130, 250, 2)
        name = dice.choice(sorted(photos.photographs()))
        picture = photos.photograph(width, height, name=name)
        made.append(Photo(kind, width, height, photos.encode(picture, kind)))
    return made


def corpus(images: int, *, seed: int) -> list[Row]:
    """So many damaged images, and half as many good ones between them."""
    dice = random.Random(seed)
    good = encode_all(dice)
    pairs = list(itertools.product(good, MUTATIONS))
    dice.shuffle(pairs)
    rows: list[Row] = []
    for number, (photo, mutate) in zip(range(images), itertools.cycle(pairs)):
        if number % 2 == 0:
            rows.append(Row(dice.choice(good).data))
        spoiled = mutate(photo, dice.choice(good), dice)
        rows.append(Row(spoiled, mutate.__name__))
    return rows


@dataclass
class Report:
    """What happened.

    Attributes:
      failures: What went wrong, a line each.
      errors: By mutation, the damaged rows by error; good ones by the empty string.
      slowest: Seconds of the slowest decode of one image, and of which mutation.
      seconds: Of the run.
      peak: Bytes, of the run; `peak_good` of one on as many good images.
    """

    failures: list[str] = field(default_factory=list)
    errors: dict[str, Counter[str]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0
    peak: int = 0
    peak_good: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="damaged ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="stays; a temporary one if missing")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report = survive(folder, images=args.images, seed=args.seed)
    _print(report)
    return 1 if report.failures else 0


def _print(report: Report) -> None:
    table = Table(title="damaged images, by what was done to them")
    names = sorted({error for found in report.errors.values() for error in found})
    for name in ("", "images", *(name or "decoded" for name in names)):
        table.add_column(name, justify="right" if name else "left")
    for mutation, found in report.errors.items():
        counts = [str(found[name] or "") for name in names]
        table.add_row(mutation.replace("_", " "), str(found.total()), *counts)
    Console(width=140).print(table)
    print(
        f"run: {report.seconds:.0f} s; {len(report.failures)} failures\n"
        f"slowest decode: {report.slowest[0] * 1000:.0f} ms ({report.slowest[1]})\n"
        f"peak memory: {report.peak / 2**20:,.0f} MiB; of a run on good images only:"
        f" {report.peak_good / 2**20:,.0f} MiB"
    )
    for failure in report.failures:
        print(failure)


def survive(folder: Path, *, images: int, seed: int) -> Report:
    """Makes the corpus, runs on it, and holds the tables against it."""
    rows, report = corpus(images, seed=seed), Report()
    _time_decodes(rows, report)
    good = [Row(row.data) for row in rows if not row.mutation]
    alike = (good * (len(rows) // len(good) + 1))[: len(rows)]
    report.peak_good, _ = _run(folder / "good", alike, report)
    report.peak, report.seconds = _run(folder / "damaged", rows, report)
    _check(folder / "damaged", rows, report)
    return report


def _time_decodes(rows: list[Row], report: Report) -> None:
    out = np.empty((SIDE, SIDE, 3), np.uint8)
    for row in rows:
        began = time.perf_counter()
        with contextlib.suppress(DecodeError):
            decode_image(row.data, preprocess=Preprocess(sizes=(SIDE,)), out=[out])
        spent = time.perf_counter() - began
        report.slowest = max(report.slowest, (spent, row.mutation or "good"))


def _run(folder: Path, rows: list[Row], report: Report) -> tuple[int, float]:
    """Runs on the rows, as tar shards.

    Returns:
      Peak memory in bytes, and seconds.
    """
    (folder / "in").mkdir(parents=True)
    for at in range(0, len(rows), _ROWS_PER_SHARD):
        some = enumerate(rows[at : at + _ROWS_PER_SHARD])
        samples = [(f"{number:06d}", {"jpg": row.data}) for number, row in some]
        shards.write_tar(folder / "in" / f"{at:06d}.tar", samples)
    command = [sys.executable, "-m", "pipeline", "run", *RUN, "--rows_per_part", "64"]
    command += ["--input", str(folder / "in"), "--output", str(folder / "out")]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    limit = _START + _SECONDS_PER_IMAGE * len(rows)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began > limit:
            process.kill()
            report.failures.append(f"{folder}: hangs: not done after {limit:.0f} s")
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        report.failures.append(f"{folder}: exit code {process.returncode}")
    return usage.ru_maxrss * 1024, time.monotonic() - began


def _check(folder: Path, rows: list[Row], report: Report) -> None:
    """Each row must be where it belongs."""
    if bitbeam(["verify", str(folder / "out"), "--input", str(folder / "in")]):
        report.failures.append(f"{folder}/out: verify fails")
    table = outputs.embeddings(folder / "out").select(["shard", "row", "sha256"])
    good = {_number(row): row["sha256"] for row in table.to_pylist()}
    bad = {_number(row): row["error"] for row in outputs.errors(folder / "out")}
    if len(good) + len(bad) != len(rows) or good.keys() & bad.keys():
        report.failures.append(f"{len(good)} + {len(bad)} rows of {len(rows)}")
    for number, row in enumerate(rows):
        error = bad.get(number, "")
        report.errors.setdefault(row.mutation or "good", Counter())[error] += 1
        if error and (error not in ERRORS or not row.mutation):
            report.failures.append(f"row {number} ({row.mutation or 'good'}): {error}")
        elif not error and good.get(number) != hashlib.sha256(row.data).digest():
            report.failures.append(f"row {number}: is lost, or another")


def _number(row: dict[str, object]) -> int:
    """A row's place in the corpus."""
    return int(Path(str(row["shard"])).stem) + int(str(row["row"]))


if __name__ == "__main__":
    sys.exit(main())
