"""Our side of the contests about the model: pixels in, embeddings and 10 scores out.

    python -m benchmarks.ours --model random:R50x1:1000 --precision bfloat16

Serves laps (`benchmarks.laps`): one of amount N is N steps of every stream. On a GPU it
is the same command: the predictor finds the device. It was not run on one.
"""

import argparse
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from . import laps
from .pictures import listed, pictures

Work = Callable[[int], float]


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.ours")
    parser.add_argument("--gflop", action="store_true", help="count these, not images")
    args = add_tuning(add_options(parser)).parse_args()
    laps.serve(partial(_prepare, args))


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds what every side takes that runs a model."""
    parser.add_argument("--model", default="random:R50x1:1000")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    return parser


def add_tuning(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds how streams and batches are chosen, up to the batch size."""
    parser.add_argument("--tune", default="measure", help="as in ModelSpec")
    parser.add_argument("--threads", type=int, help="of a stream; nothing is tuned")
    return parser


def spec_of(args: argparse.Namespace) -> Any:
    """What the options ask for, as a ModelSpec."""
    from transforms.bit import ModelSpec

    return ModelSpec(
        args.model,
        image_size=args.image_size,
        batch_size=args.batch_size,
        precision=args.precision,
        tune=args.tune,
        # Of random logits softmax makes scores that are all next to nothing.
        activation="sigmoid",
    )


def _prepare(args: argparse.Namespace) -> tuple[Mapping[str, Any], Work]:
    predictor = load(args)
    images = pictures(predictor.batch_size, args.image_size)
    checks = predictor.checks.get("precision", {})
    facts = {
        "precision": checks.get("used", args.precision),
        **device(predictor),
        "probes": figures(checks),
        "embeddings": listed(predictor(images).embeddings),
    }
    each = _gflop(args) if args.gflop else 1.0
    return facts, lambda amount: each * run(predictor, images, amount)


def load(args: argparse.Namespace) -> Any:
    """Loads a predictor as the options ask."""
    from transforms import bit
    from transforms.bit.build import build
    from transforms.bit.runtime import set_threads
    from transforms.bit.source import find_source

    spec = spec_of(args)
    if not args.threads:
        return bit.load(spec)
    set_threads(args.threads)
    return build(spec, info=bit.describe(spec), source=find_source(spec.name))


def _gflop(args: argparse.Namespace) -> float:
    from transforms.bit.random_weights import RandomWeights

    from .layers import gflop

    return gflop(RandomWeights.parse(args.model).architecture, args.image_size)


def run(predictor: Any, images: np.ndarray, amount: int) -> int:
    """Runs a batch again and again: the one place that says how our model is driven.

    Args:
      predictor: Of which each stream is fed by a thread of its own, as in a pipeline.
      images: uint8 [batch size, side, side, 3].
      amount: How many steps there are for each stream; who is faster does more.

    Returns:
      The images of all steps.
    """
    steps = [images] * (amount * predictor.streams)
    with ThreadPoolExecutor(predictor.streams) as streams:
        for _ in streams.map(predictor, steps):
            pass
    return len(steps) * len(images)


def device(predictor: Any = None) -> dict[str, Any]:
    """What TensorFlow runs on, and how."""
    from transforms.bit import machine
    from transforms.bit.runtime import on_gpu, tf

    threads = tf.config.threading.get_intra_op_parallelism_threads()
    facts: dict[str, Any] = {"device": "gpu" if on_gpu() else "cpu"}
    if predictor:
        facts |= {"streams": predictor.streams, "batch_size": predictor.batch_size}
    return {
        **facts,
        "threads": threads or machine.cores(),
        "versions": {"tensorflow": tf.__version__, "numpy": np.__version__},
    }


def figures(checks: Mapping[str, Any]) -> dict[str, float]:
    """What was measured of a reduced precision at load; nothing of float32."""
    named = ("cosine", "score_change", "top5_agreement")
    return {name: checks[name] for name in named if name in checks}


if __name__ == "__main__":
    main()
