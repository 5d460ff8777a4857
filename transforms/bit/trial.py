"""The process in which a model's speed is tried: `python -m transforms.bit.trial`.

It has the model's shapes with constants for weights: an architecture is as fast with
one as with another, and nothing is read or checked.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import runtime
from .architecture import Architecture
from .kernels import is_standardized
from .model import describe
from .network import Network
from .precision import resolve_precision
from .predictor import Predictor
from .runtime import tf
from .spec import ModelSpec

_LAP = 1.0
"""Seconds that a batch size is measured for; at least a step of each stream."""
_SLOWER = 0.95
"""Of the best so far: no larger batch is tried after one as slow."""
_WEIGHT = 1e-3
"""Every weight; not 0, lest a product be skipped, and far from subnormal."""


def main() -> None:
    """Prints a line of JSON for each batch size that was measured."""
    trial = json.loads(sys.argv[1])
    runtime.set_threads(trial["threads"])
    for batch_size, rate in rates(trial):
        print(json.dumps({"batch_size": batch_size, "rate": rate}), flush=True)


def rates(trial: dict[str, Any], *, lap: float = _LAP) -> Iterator[tuple[int, float]]:
    """Measures the batch sizes of a trial in order, until larger ones do not pay.

    Yields:
      Batch size and images a second of all streams together; then all sizes again,
      the last first, as another program may have slowed one down.
    """
    network = _network(trial["model"], precision=trial["precision"])
    tried: list[Predictor] = []
    best = 0.0
    for batch_size in trial["batches"]:
        spec = ModelSpec(
            trial["model"],
            image_size=trial["image_size"],
            batch_size=batch_size,
            top_k=trial["top_k"],
        )
        tried.append(Predictor(describe(spec), spec=spec, model=network, checks={}))
        rate = _rate(tried[-1], lap=lap)
        yield batch_size, rate
        if rate < _SLOWER * best:
            break
        best = max(best, rate)
    for predictor in reversed(tried):
        yield predictor.batch_size, _rate(predictor, lap=lap)


def _network(model: str, *, precision: str) -> Network:
    name, classes = model.removeprefix("random:").split(":")
    architecture = Architecture.parse(name, classes=int(classes))
    precision = resolve_precision(precision)
    tensors = {}
    for key, shape in architecture.shapes().items():
        dtype = precision if is_standardized(key) else "float32"
        value = tf.fill(shape, tf.cast(_WEIGHT, dtype))
        tensors[key] = tf.Variable(value, trainable=False)
    return Network(architecture, tensors=tensors, precision=precision)


def _rate(predictor: Predictor, *, lap: float) -> float:
    side = predictor.info.image_size
    images = np.full((predictor.batch_size, side, side, 3), 127, np.uint8)
    predictor(images)
    rates: list[float] = []
    ready = threading.Barrier(predictor.streams)

    def run() -> None:
        # The first step on threads of its own counts for nothing.
        predictor(images)
        ready.wait()
        began, count = time.perf_counter(), 0
        while not count or time.perf_counter() < began + lap:
            predictor(images)
            count += len(images)
        rates.append(count / (time.perf_counter() - began))

    streams = [threading.Thread(target=run) for _ in range(predictor.streams)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    return sum(rates)


if __name__ == "__main__":
    main()
