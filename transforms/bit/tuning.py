"""How a model runs best on a machine: measured once, then known.

On a CPU it runs as several streams, each a batch of its own on few threads: where
threads share an operation, all wait for the slowest of them, which is the one whose
core just decodes an image. What is computed is the same, but for the last bits of sums
over the classes.
"""

import hashlib
import importlib.metadata
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from . import machine
from .cache import cache_folder
from .spec import ModelInfo, ModelSpec

_log = logging.getLogger(__name__)

_CPU_BATCH = 8
_GPU_BATCH = 64
_LEAST_BATCH = {True: 16, False: 4}
"""By whether there is a GPU: what a search begins with."""
_GAIN = 1.02
"""How much faster a larger batch must be to be preferred."""
_THREADS_GAIN = 1.05
"""The same for more threads a stream, which suffer more from a decoder beside them than
a trial shows."""
_SECONDS = 120.0
"""A trial ends then, with what it has measured."""
_LIVE_TENSORS = 5
"""Of the largest size, that a step holds at once."""
_MEMORY_SHARE = 0.25
"""Of the machine's, for the activations of all streams."""


@dataclass(frozen=True)
class Tuning:
    """How a model runs.

    Attributes:
      threads: That share one operation of a stream; 0: TensorFlow's own choice, as on
        a GPU.
      batch_size: Images of a step.
    """

    threads: int
    batch_size: int


Trial = Callable[..., list[tuple[int, float]]]
"""Of the form of `run_trial`."""


def tune(spec: ModelSpec, info: ModelInfo, *, trial: Trial | None = None) -> Tuning:
    """Says how to run a model: as the spec asks, by a rule, or as it is fastest.

    A measurement takes up to some minutes, in processes of its own. Its result is
    kept in the cache, by machine and by all of the model that decides its speed; of
    many processes that ask at once one measures. Where it fails the rule holds.

    Args:
      spec: What is asked of the model.
      info: What it is.
      trial: Measures some batch sizes; None: `run_trial`.
    """
    if spec.tune == "no":
        return Tuning(_threads(info, spec.batch_size), spec.batch_size)
    rule = _rule(spec, info)
    # Another's SavedModel would have to be loaded anew for every trial.
    if spec.tune == "rule" or not info.rebuilt:
        return rule
    try:
        return _kept_or_measured(spec, info, trial=trial or run_trial) or rule
    except OSError as error:
        _log.warning("%s: cannot measure its best batch: %s", info.name, error)
        return rule


def _rule(spec: ModelSpec, info: ModelInfo) -> Tuning:
    usual = _GPU_BATCH if machine.has_gpu() else _CPU_BATCH
    batch = min(spec.batch_size, usual)
    return Tuning(_threads(info, batch), batch)


def _threads(info: ModelInfo, batch_size: int) -> int:
    """The fewest with which all streams fit in memory; 0 on a GPU."""
    if machine.has_gpu():
        return 0
    return next(
        (
            threads
            for threads in _divisors(machine.cores())
            if _fits(info, threads=threads, batch_size=batch_size)
        ),
        machine.cores(),
    )


def _fits(info: ModelInfo, *, threads: int, batch_size: int) -> bool:
    streams = machine.cores() // threads
    # The root's output, float32: half the side and 64 channels, times the width. The
    # first block's are as large.
    width = max(1, info.embedding_size // 2048)
    tensor = 4 * 64 * width * (info.image_size / 2) ** 2
    held = streams * batch_size * _LIVE_TENSORS * tensor
    return held <= _MEMORY_SHARE * machine.memory()


def _divisors(cores: int) -> Iterator[int]:
    return (number for number in range(1, cores + 1) if cores % number == 0)


def _kept_or_measured(
    spec: ModelSpec, info: ModelInfo, *, trial: Trial
) -> Tuning | None:
    from filelock import FileLock

    path = cache_folder() / "tuning" / f"{_key(spec, info)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        with suppress(OSError, ValueError, TypeError):
            return Tuning(**json.loads(path.read_text()))
        _log.info("%s: measuring how it runs best here; once", info.name)
        tuning = _measure(spec, info, trial=trial)
        if tuning:
            _replace(path, json.dumps(asdict(tuning)))
    return tuning


def _key(spec: ModelSpec, info: ModelInfo) -> str:
    versions = [_version(name) for name in ("bitbeam", "tensorflow")]
    size = (info.architecture, info.classes, info.image_size, spec.batch_size)
    text = repr((machine.digest(), versions, size, spec.precision, spec.top_k))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _version(distribution: str) -> str:
    # TensorFlow may come under other names, such as tensorflow-cpu.
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _measure(spec: ModelSpec, info: ModelInfo, *, trial: Trial) -> Tuning | None:
    """Searches: for each number of threads, ever larger batches while they gain."""
    best, speed = None, 0.0
    for threads in _thread_counts():
        batches = [
            batch
            for batch in _batches(spec.batch_size)
            # Fewer streams of more threads each want no smaller batch.
            if not best or batch >= best.batch_size
            if not threads or _fits(info, threads=threads, batch_size=batch)
        ]
        for batch, rate in trial(spec, info, threads=threads, batches=batches):
            gain = _GAIN if not best or best.threads == threads else _THREADS_GAIN
            if rate > speed * gain:
                best, speed = Tuning(threads, batch), rate
    if best:
        _log.info(
            "%s: %.1f images/s in batches of %d", info.name, speed, best.batch_size
        )
    else:
        _log.warning("%s: its trial gave no result; a rule decides", info.name)
    return best


def _thread_counts() -> list[int]:
    """1, 4, 16 and so on, and all cores; what TensorFlow takes on a GPU."""
    if machine.has_gpu():
        return [0]
    divisors = list(_divisors(machine.cores()))
    fours = [number for number in divisors if number in (1, 4, 16, 64)]
    return sorted({*fours, divisors[-1]})


def _batches(most: int) -> list[int]:
    batch = min(most, _LEAST_BATCH[machine.has_gpu()])
    batches = [batch]
    while batch * 2 <= most:
        batch *= 2
        batches.append(batch)
    return batches


def run_trial(
    spec: ModelSpec, info: ModelInfo, *, threads: int, batches: list[int]
) -> list[tuple[int, float]]:
    """Measures batch sizes in a process of its own, which may run out of memory.

    Args:
      spec: What is asked of the model.
      info: What it is.
      threads: Of a stream; 0: TensorFlow's own choice.
      batches: Sizes, rising; what follows one that is slower is left out.

    Returns:
      Pairs of a size and images a second, the best of two laps; those that were
      measured.
    """
    trial = {
        "model": f"random:{info.architecture}:{info.classes}",
        "image_size": info.image_size,
        "precision": spec.precision,
        "top_k": spec.top_k,
        "threads": threads,
        "batches": batches,
    }
    command = [sys.executable, "-m", "transforms.bit.trial", json.dumps(trial)]
    with tempfile.TemporaryFile("w+") as out:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command,
                stdout=out,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        out.seek(0)
        lines = [json.loads(line) for line in out if line.endswith("}\n")]
    rates: dict[int, float] = {}
    for line in lines:
        size, rate = line["batch_size"], line["rate"]
        # What disturbs makes it slower, never faster.
        rates[size] = max(rate, rates.get(size, 0.0))
    return list(rates.items())


def _replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    scratch = path.with_suffix(".partial")
    scratch.write_text(text)
    scratch.replace(path)
