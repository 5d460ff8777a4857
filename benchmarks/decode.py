"""Decode and resize of one JPEG on one thread: ours beside plain Pillow.

    python -m benchmarks.decode [--repeats 9]

Processor time, so that other work on the machine counts less. Interleaved: each repeat
times all ways once, and ratios are taken within a repeat.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from tests.photos import photograph, save
from transforms.image import Preprocess, decode_image

SIDE = 224
SHAPES = ((500, 375), (1024, 768), (4000, 3000))

Way = Callable[[bytes], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    table = Table(title=f"JPEG to {SIDE} x {SIDE}, one thread, ms per image")
    table.caption = "Medians. Ratio: antialias over plain Pillow."
    table.add_column("image")
    for name in WAYS:
        table.add_column(name, justify="right")
    for name in ("ratio", "least", "most"):
        table.add_column(name, justify="right")
    for width, height in SHAPES:
        data = save(photograph(width, height), "JPEG", quality=85)
        times = measure(data, repeats=repeats)
        pairs = zip(times["antialias"], times["Pillow"], strict=True)
        ratios = sorted(ours / theirs for ours, theirs in pairs)
        table.add_row(
            f"{width} x {height}",
            *(f"{statistics.median(times[name]):.2f}" for name in WAYS),
            *(f"{r:.2f}" for r in (statistics.median(ratios), ratios[0], ratios[-1])),
        )
    Console(width=100).print(table)


def measure(data: bytes, *, repeats: int) -> dict[str, list[float]]:
    """Milliseconds an image of each way, `repeats` times."""
    calls = max(1, 30_000_000 // (len(data) * 40))
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            began = time.thread_time()
            for _ in range(calls):
                way(data)
            times[name].append((time.thread_time() - began) / calls * 1e3)
    return times


def _ours(resize: str) -> Way:
    preprocess = Preprocess(sizes=(SIDE,), resize=resize)
    out = [np.empty((SIDE, SIDE, 3), np.uint8)]
    return lambda data: decode_image(data, preprocess=preprocess, out=out)


def _pillow(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small)


def _pillow_draft(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small)


def _pillow_load(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as image:
        return image.load()


WAYS: dict[str, Way] = {
    "antialias": _ours("antialias"),
    "bilinear": _ours("bilinear"),
    "Pillow": _pillow,
    "draft": _pillow_draft,
    "no resize": _pillow_load,
}


if __name__ == "__main__":
    main()
