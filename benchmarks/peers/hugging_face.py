"""PyTorch's side: `BitForImageClassification` of transformers, in all ways to run it.

    python -m benchmarks.peers.hugging_face --precision bfloat16 --channels_last

Serves laps (`benchmarks.laps`): one of amount N is N batches, from uint8 pixels to
embeddings and 10 scores, as ours. On a GPU it is the same command; not run on one.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks import laps
from benchmarks.ours import add_options
from benchmarks.pictures import listed, pictures
from transforms.bit.random_weights import RandomWeights

from .bit import peer

_TOP_K = 10


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.hugging_face")
    add = parser.add_argument
    add("--autocast", help="weights stay float32, operations are in this type")
    add("--channels_last", action="store_true")
    add("--compile", action="store_true", help="by torch.compile")
    add("--streams", type=int, default=1, help="batches at once, each on its threads")
    args = add_options(parser).parse_args()
    laps.serve(partial(_prepare, args))


class Step(torch.nn.Module):
    """From pixels to features and the best classes, the same as one step of ours."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        weights = RandomWeights.parse(args.model)
        self.dtype = getattr(torch, args.precision)
        self.channels_last = args.channels_last
        self.model = peer(weights).to(self.dtype)
        if args.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Takes uint8 [n, side, side, 3]."""
        x = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).to(self.dtype)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = x.contiguous()
        pooled = self.model.bit(x).pooler_output
        logits = self.model.classifier(pooled).float()
        best, classes = torch.topk(logits, min(_TOP_K, logits.shape[1]))
        return pooled.flatten(1).float(), classes, torch.sigmoid(best)


class Runner:
    """A step on this machine's device, in one of the ways to run it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # In float32 ours computes float32, and so must this.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self.streams = args.streams
        self.threads = max(1, len(os.sched_getaffinity(0)) // args.streams)
        torch.set_num_threads(self.threads)
        self._cast = getattr(torch, args.autocast) if args.autocast else None
        self._step: Any = Step(args).to(self.device).eval()
        if args.compile:
            mode = "max-autotune" if self.device == "cuda" else "default"
            self._step = torch.compile(self._step, mode=mode)
        # Of each of its threads the number is set anew.
        self._pool = ThreadPoolExecutor(
            args.streams, initializer=torch.set_num_threads, initargs=(self.threads,)
        )

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Embeds and classifies uint8 [n, side, side, 3]."""
        pixels = torch.from_numpy(images).to(self.device, non_blocking=True)
        cast = torch.autocast(self.device, self._cast, enabled=bool(self._cast))
        with torch.inference_mode(), cast:
            found = self._step(pixels)
        return tuple(one.cpu().numpy() for one in found)

    def run(self, images: np.ndarray, count: int) -> None:
        """Runs a batch again and again; with streams, parts of it at once."""
        if self.streams == 1:
            for _ in range(count):
                self(images)
            return
        parts = np.array_split(images, self.streams) * count
        list(self._pool.map(self, parts))


def _prepare(
    args: argparse.Namespace,
) -> tuple[Mapping[str, Any], Callable[[int], float]]:
    runner = Runner(args)
    images = pictures(args.batch_size, args.image_size)
    # Of the one shape that laps have: compiled code is made anew for another.
    part = np.array_split(images, args.streams)[0]

    def work(amount: int) -> float:
        runner.run(images, amount)
        return amount * len(images)

    facts = {
        "precision": args.precision,
        "device": runner.device,
        "threads": runner.threads * runner.streams,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "embeddings": listed(runner(part)[0]),
    }
    return facts, work


if __name__ == "__main__":
    main()
