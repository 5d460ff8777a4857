"""Ceilings: the convolutions of a network alone, and one large product of matrices.

    python -m benchmarks.ceiling convolutions --model random:R50x1 --precision bfloat16
    python -m benchmarks.ceiling product --precision bfloat16

Serves laps (`benchmarks.laps`): of batches, or of products, counted in GFLOP. On a GPU
it is the same command; it was not run on one.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from . import laps
from .layers import Convolution, convolutions
from .ours import add_options, device, run_batches
from .pictures import pictures


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.ceiling")
    parser.add_argument("what", choices=["convolutions", "product"])
    parser.add_argument("--size", type=int, default=4096, help="of the matrices")
    args = add_options(parser).parse_args()
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


def _prepare_convolutions(
    args: argparse.Namespace,
) -> tuple[Mapping[str, Any], Callable[[int], float]]:
    from transforms.bit import ModelSpec, describe
    from transforms.bit.predictor import Predictor
    from transforms.bit.random_weights import RandomWeights

    spec = ModelSpec(args.model, image_size=args.image_size, batch_size=args.batch_size)
    layers = convolutions(RandomWeights.parse(args.model).architecture, args.image_size)
    info = replace(describe(spec), classes=0, embedding_size=len(layers))
    model = Convolutions(layers, batch_size=args.batch_size, precision=args.precision)
    # Driven as our model is, so that what differs is what lies between.
    predictor = Predictor(info, spec=spec, model=model, checks={})
    images = pictures(args.batch_size, args.image_size)

    def work(amount: int) -> float:
        run_batches(predictor, images, amount)
        return amount * len(images)

    return {"precision": args.precision, "layers": len(layers), **device()}, work


def _prepare_product(
    args: argparse.Namespace,
) -> tuple[Mapping[str, Any], Callable[[int], float]]:
    from transforms.bit.runtime import tf

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
