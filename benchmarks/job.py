"""One job of bitbeam, timed: `python -m benchmarks.job --folder FOLDER RUN-OPTIONS`.

Prints a lap. Its seconds are those of the steady part: from the first bundle's begin,
which opens the first shard, until the table is complete. Before that Beam is imported,
the job planned, the model loaded and run once, as its first step compiles: `start_s`.
`core_s` is processor time of an image, of all threads, since the model is there.

With `--instant` the model costs nothing and TensorFlow is not imported: its embeddings
and scores are random numbers made beforehand, so that they pack as real ones do.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import graph, launch, output
from pipeline.arguments import build_parser, run_options
from pipeline.bottleneck import bottleneck
from pipeline.job import plan_job
from transforms import describe_model, load_model
from transforms.bit import ModelSpec, Predictions

from . import ours
from .pictures import pictures

_ROWS = 4096
"""Embeddings that an instant model has; more than zstd remembers."""

_loaded: list[float] = []
"""Processor time of the process when its model was there."""


def main() -> None:
    """Runs the job and prints the lap; the table is removed."""
    parser = argparse.ArgumentParser(prog="benchmarks.job", allow_abbrev=False)
    parser.add_argument("--folder", type=Path, required=True, help="of the table")
    parser.add_argument("--instant", action="store_true")
    parser.add_argument("--tune", default="rule", help="as in ModelSpec")
    args, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="table-") as table:
        lap = run(options, table=Path(table), instant=args.instant, tune=args.tune)
    print(json.dumps(lap))


def run(
    options: Sequence[str], *, table: Path, instant: bool, tune: str
) -> dict[str, Any]:
    """Runs a job into an empty folder.

    Args:
      options: Of `bitbeam run`, without a batch size.
      table: The folder.
      instant: Whether the model costs nothing.
      tune: How streams and batches are chosen. A job of gigabytes has `measure`, so
        one that stands for it must have, too.

    Returns:
      The lap: `seconds`, `units`, `start_s`, `core_s`, `bound`.
    """
    began = time.perf_counter()
    arguments = ["run", *options, "--output", str(table)]
    parsed = run_options(*build_parser().parse_known_args(arguments))
    pipeline = launch.make_pipeline(launch.pipeline_options(parsed))
    job = plan_job(parsed)
    embed = replace(job.models.embed, tune=tune)
    job = replace(job, models=job.models._replace(embed=embed))
    plan = output.prepare(job, overwrite=False)
    graph.build(pipeline, job, plan, load=_load_instant if instant else _load_warm)
    sums = launch.wait(pipeline)
    whole, processor = time.perf_counter() - began, time.process_time()
    summary = output.read_summary(job.output)
    if not summary or summary["bad"]:
        sys.exit(f"images are bad: {summary}")
    seconds = sums["active_usec"] / 1e6 + _finishing(table)
    return {
        "seconds": seconds,
        "units": summary["images"],
        "start_s": whole - seconds,
        "core_s": (processor - _loaded[-1]) / summary["images"],
        "bound": bottleneck(sums, seconds=whole),
    }


def _load_warm(spec: ModelSpec) -> Any:
    predictor = load_model(spec)
    ours.run(predictor, pictures(predictor.batch_size, predictor.info.image_size), 1)
    _loaded.append(time.process_time())
    return predictor


def _load_instant(spec: ModelSpec) -> "InstantModel":
    model = InstantModel(spec)
    _loaded.append(time.process_time())
    return model


def _finishing(table: Path) -> float:
    """Seconds between the last part and the summary, after which nothing is written."""
    parts = [path.stat().st_mtime for path in table.glob("embeddings/*.parquet")]
    return max(0.0, (table / output.SUMMARY_JSON).stat().st_mtime - max(parts))


class InstantModel:
    """Predicts what it has ready, whatever the images are."""

    streams = 1

    def __init__(self, spec: ModelSpec) -> None:
        self.info = describe_model(spec)
        self.batch_size = spec.batch_size
        self.checks: dict[str, Any] = {}
        dice, top_k = np.random.default_rng(0), min(spec.top_k, self.info.classes)
        shape = (_ROWS, self.info.embedding_size)
        self._embeddings = np.abs(dice.normal(size=shape)).astype(np.float32)
        scores = dice.random((_ROWS, top_k), np.float32)
        self._scores = -np.sort(-scores, axis=1)
        self._classes = dice.integers(
            0, max(1, self.info.classes), (_ROWS, top_k), np.int32
        )
        self._at = 0

    def __call__(self, images: np.ndarray) -> Predictions:
        """Gives the next rows, none of them copied."""
        if self._at + len(images) > _ROWS:
            self._at = 0
        rows = slice(self._at, self._at + len(images))
        self._at = rows.stop
        if not self.info.classes:
            return Predictions(self._embeddings[rows], None, None)
        return Predictions(
            self._embeddings[rows], self._classes[rows], self._scores[rows]
        )

    def resized(self, batch_size: int) -> "InstantModel":
        """Has no need to."""
        return self


if __name__ == "__main__":
    # Functions of `__main__` are pickled by value, and `_loaded` would be another list.
    from benchmarks import job

    job.main()
