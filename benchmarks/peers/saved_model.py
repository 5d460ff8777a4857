"""The network as a SavedModel of the published form, called as it is.

    python -m benchmarks.peers.saved_model --model random:R50x1:1000 --folder FOLDER

That is, with weight standardization and group norm in the graph as their authors
exported them, by `tf.saved_model.load` and a call. Serves laps of batches.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import laps
from benchmarks.ours import add_options, device
from benchmarks.pictures import listed, pictures
from transforms.bit.random_weights import RandomWeights

_TOP_K = 10


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.saved_model")
    parser.add_argument("--folder", type=Path, required=True, help="it is written here")
    args = add_options(parser).parse_args()
    laps.serve(partial(_prepare, args))


def write(model: str, folder: Path) -> None:
    """Writes a SavedModel of random weights that gives features and logits at once."""
    from tests import bit_modules

    weights = RandomWeights.parse(model)
    depth = int(weights.architecture.depth[1:])
    module = bit_modules.Module(dict(weights.tensors()), depth=depth)
    bit_modules.save_both_outputs(module, folder)


def load(folder: Path) -> Callable[[np.ndarray], tuple[Any, ...]]:
    """Loads it; gives what a step of ours does, on uint8 [n, side, side, 3]."""
    from transforms.bit.runtime import tf

    loaded = tf.saved_model.load(str(folder))

    def step(images: np.ndarray) -> tuple[np.ndarray, ...]:
        found = loaded(tf.cast(images, tf.float32) / 255)
        logits = found["logits"]
        best, classes = tf.math.top_k(logits, min(_TOP_K, logits.shape[1]))
        outputs = (found["pre_logits"], classes, tf.math.sigmoid(best))
        return tuple(one.numpy() for one in outputs)

    return step


def _prepare(
    args: argparse.Namespace,
) -> tuple[Mapping[str, Any], Callable[[int], float]]:
    from transforms.bit.runtime import set_threads

    # TensorFlow's own choice, which ours is not.
    set_threads(0)
    folder = args.folder / args.model.replace(":", "-")
    if not folder.exists():
        write(args.model, folder)
    step = load(folder)
    images = pictures(args.batch_size, args.image_size)

    def work(amount: int) -> float:
        for _ in range(amount):
            step(images)
        return amount * len(images)

    embeddings = listed(step(images)[0])
    return {"precision": "float32", **device(), "embeddings": embeddings}, work


if __name__ == "__main__":
    main()
