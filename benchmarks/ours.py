"""Our side of the contests about the model: pixels in, embeddings and 10 scores out.

    python -m benchmarks.ours --model random:R50x1:1000 --precision bfloat16

Serves laps (`benchmarks.laps`): one of amount N is N batches. On a GPU it is the same
command: the predictor finds the device. It was not run on one.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from . import laps
from .pictures import listed, pictures


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.ours")
    parser.add_argument("--gflop", action="store_true", help="count these, not images")
    args = add_options(parser).parse_args()
    laps.serve(partial(_prepare, args))


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds what every side takes that runs a model."""
    parser.add_argument("--model", default="random:R50x1:1000")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    return parser


def _prepare(
    args: argparse.Namespace,
) -> tuple[Mapping[str, Any], Callable[[int], float]]:
    from transforms.bit import ModelSpec, load
    from transforms.bit.random_weights import RandomWeights

    from .layers import gflop

    spec = ModelSpec(
        args.model,
        image_size=args.image_size,
        batch_size=args.batch_size,
        precision=args.precision,
    )
    predictor = load(spec)
    images = pictures(args.batch_size, args.image_size)
    each = 1.0
    if args.gflop:
        architecture = RandomWeights.parse(args.model).architecture
        each = gflop(architecture, args.image_size)

    def work(amount: int) -> float:
        run_batches(predictor, images, amount)
        return amount * len(images) * each

    checks = predictor.checks.get("precision", {})
    facts = {
        "precision": checks.get("used", args.precision),
        **device(),
        "probes": figures(checks),
        "embeddings": listed(predictor(images).embeddings),
    }
    return facts, work


def run_batches(runner: Any, images: np.ndarray, count: int) -> None:
    """Runs a batch again and again: the one place that says how our model is driven.

    Args:
      runner: A predictor.
      images: uint8 [batch, side, side, 3].
      count: How often.
    """
    for _ in range(count):
        runner(images)


def device() -> dict[str, Any]:
    """What TensorFlow runs on, and which it is."""
    from transforms.bit.runtime import on_gpu, tf

    return {
        "device": "gpu" if on_gpu() else "cpu",
        "threads": len(os.sched_getaffinity(0)),
        "versions": {"tensorflow": tf.__version__, "numpy": np.__version__},
    }


def figures(checks: Mapping[str, Any]) -> dict[str, float]:
    """What was measured of a reduced precision at load; nothing of float32."""
    named = ("cosine", "score_change", "top5_agreement")
    return {name: checks[name] for name in named if name in checks}


if __name__ == "__main__":
    main()
