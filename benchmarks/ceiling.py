"""Ceilings: the convolutions of a network alone, and one large product of matrices.

    python -m benchmarks.ceiling convolutions --model random:R50x1 --precision bfloat16
    python -m benchmarks.ceiling product --precision bfloat16

Serves laps (`benchmarks.laps`): of batches, or of products, counted in GFLOP. On a GPU
it is the same command; it was not run on one.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from . import laps
from .layers import Convolution, convolutions
from .ours import Work, add_options, add_tuning, device, run, spec_of
from .pictures import pictures


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.ceiling")
    parser.add_argument("what", choices=["convolutions", "product"])
    parser.add_argument("--size", type=int, default=4096, help="of the matrices")
    args = add_tuning(add_options(parser)).parse_args()
    prepare = _prepare_product if args.what == "product" else _prepare_convolutions
    laps.serve(partial(prepare, args))


class Convolutions:
    """A model that does the convolutions of BiT and nothing between them.

    Each reads a tensor of the right shape that is there already, in the order of the
    network and one after the other, as there.
    """

    def __init__(
        self, layers: list[Convolution], *, batch_size: int, precision: str
    ) -> None:
        from transforms.bit.runtime import tf

        self._layers = layers
        shapes = {(layer.side, layer.kernel[2]) for layer in layers}
        self._inputs = {
            (side, channels): tf.Variable(
                tf.cast(tf.random.normal([batch_size, side, side, channels]), precision)
            )
            for side, channels in shapes
        }
        self._kernels = [
            tf.Variable(tf.cast(tf.random.normal(layer.kernel), precision))
            for layer in layers
        ]

    def outputs(self, images: Any) -> tuple[Any, None]:
        """A number of each convolution: float32 [n, convolutions]."""
        from transforms.bit.runtime import tf

        done: list[Any] = []
        for layer, kernel in zip(self._layers, self._kernels, strict=True):
            with tf.control_dependencies(done[-1:]):
                x = self._inputs[layer.side, layer.kernel[2]].read_value()
                x = tf.nn.conv2d(x, kernel, layer.stride, "VALID")
            # Else it would not be computed, or all of them would be kept.
            done.append(tf.cast(x[:, 0, 0, 0], tf.float32))
        return tf.stack(done, axis=1), None


def _prepare_convolutions(args: argparse.Namespace) -> tuple[Mapping[str, Any], Work]:
    from transforms.bit import describe
    from transforms.bit.predictor import Predictor
    from transforms.bit.random_weights import RandomWeights
    from transforms.bit.runtime import set_threads
    from transforms.bit.tuning import tune

    spec = spec_of(args)
    info = describe(spec)
    # As our model is run, so that what differs is what lies between convolutions.
    tuning = tune(spec, info)
    set_threads(tuning.threads)
    layers = convolutions(RandomWeights.parse(args.model).architecture, args.image_size)
    model = Convolutions(layers, batch_size=tuning.batch_size, precision=args.precision)
    predictor = Predictor(
        replace(info, classes=0, embedding_size=len(layers)),
        spec=replace(spec, batch_size=tuning.batch_size),
        model=model,
        checks={},
    )
    images = pictures(predictor.batch_size, args.image_size)
    facts = {"precision": args.precision, "layers": len(layers), **device(predictor)}
    return facts, lambda amount: run(predictor, images, amount)


def _prepare_product(args: argparse.Namespace) -> tuple[Mapping[str, Any], Work]:
    from transforms.bit.runtime import set_threads, tf

    # All of them on one product.
    set_threads(0)
    matrices = [
        tf.cast(tf.random.normal([args.size, args.size]), args.precision)
        for _ in range(2)
    ]

    def work(amount: int) -> float:
        for _ in range(amount):
            product = tf.matmul(*matrices)
        # A number of the last, so that all have been done.
        product[0, 0].numpy()
        return amount * 2 * args.size**3 / 1e9

    return {"precision": args.precision, "size": args.size, **device()}, work


if __name__ == "__main__":
    main()
