"""What a pipeline is held against: its model alone, and its decoder alone.

    python -m benchmarks.ideal model --precision bfloat16 --batches 20
    python -m benchmarks.ideal decode --tar PATH --threads 2 --images 2000

Serves laps (`benchmarks.laps`), all of which are of the same size. `core_s` of a lap is
processor time of an image: of all threads of the process, the system's part included.
"""

import argparse
import itertools
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import laps

Work = Callable[[int], tuple[float, Mapping[str, Any]]]


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.ideal")
    add = parser.add_argument
    add("what", choices=("model", "decode"))
    add("--model", default="random:R50x1:1000")
    add("--image_size", type=int, default=224)
    add("--precision", default="auto")
    add("--tune", default="rule", help="as in ModelSpec")
    add("--batches", type=int, default=20, help="of each stream, in a lap of the model")
    add("--tar", type=Path, help="what is decoded")
    add("--threads", type=int, default=1, help="that decode")
    add("--images", type=int, default=2_000, help="of a lap of the decoder")
    add("--once", action="store_true", help="one lap, then the end")
    args = parser.parse_args()
    run = laps.once if args.once else laps.serve
    run(partial(_model if args.what == "model" else _decoder, args))


def _model(args: argparse.Namespace) -> tuple[Mapping[str, Any], Work]:
    from pipeline import batch
    from transforms import Models, describe_model
    from transforms.bit import ModelSpec, load, machine

    from .ours import device, run
    from .pictures import pictures

    spec = ModelSpec(args.model, image_size=args.image_size, precision=args.precision)
    # As a job has it that says nothing of batches.
    sized = batch.sized(
        Models(spec), infos=(describe_model(spec),), gpu=machine.has_gpu(), shards=()
    )
    predictor = load(replace(sized.embed, tune=args.tune))
    images = pictures(predictor.batch_size, args.image_size)
    run(predictor, images, 1)
    precision = predictor.checks.get("precision", {}).get("used", args.precision)
    return {"precision": precision, **device(predictor)}, _counting_cores(
        lambda amount: run(predictor, images, amount * args.batches)
    )


def _decoder(args: argparse.Namespace) -> tuple[Mapping[str, Any], Work]:
    images = read_tar(args.tar)

    def work(amount: int) -> float:
        todo = itertools.islice(itertools.cycle(images), amount * args.images)
        decode(todo, threads=args.threads, side=args.image_size)
        return amount * args.images

    decode(images[:100], threads=args.threads, side=args.image_size)
    return {"threads": args.threads, "images": len(images)}, _counting_cores(work)


def _counting_cores(work: Callable[[int], float]) -> Work:
    def counted(amount: int) -> tuple[float, Mapping[str, Any]]:
        began = time.process_time()
        units = work(amount)
        return units, {"core_s": (time.process_time() - began) / units}

    return counted


def read_tar(path: Path) -> list[bytes]:
    """All images of a tar file."""
    images = []
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            images.append(file.read())
    return images


def decode(
    images: Sequence[bytes] | Iterator[bytes], *, threads: int, side: int
) -> None:
    """Decodes images as bitbeam does, each into the same memory, and forgets them."""
    from transforms.image import Preprocess, decode_image

    preprocess, todo = Preprocess(sizes=(side,)), iter(images)
    lock, failures = threading.Lock(), []

    def take() -> Iterator[bytes]:
        while True:
            with lock:
                data = next(todo, None)
            if data is None:
                return
            yield data

    def run() -> None:
        out = [np.empty((side, side, 3), np.uint8)]
        try:
            for data in take():
                decode_image(data, preprocess=preprocess, out=out)
        except Exception as failure:  # raised where it is waited for
            failures.append(failure)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    main()
