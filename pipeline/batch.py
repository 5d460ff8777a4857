"""Images of a step and of a block, where nobody says."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

from transforms import Models, Shard
from transforms.bit import ModelInfo, machine

from .options import RunOptions

_CPU_IMAGES = 16
_GPU_IMAGES = 256
_GPU_BYTES = 40 << 20
"""Of the pixels of a block on their way to a GPU, of which several wait."""
_LEAST = 16
_LEAST_BLOCK = 128
"""A block costs a runner's thread milliseconds, however few images it has."""
_WORTH_MEASURING = 1 << 30
"""Bytes of shards: below, a measurement takes longer than it can save."""


def sized(
    models: Models,
    *,
    infos: tuple[ModelInfo, ...],
    gpu: bool,
    shards: Iterable[Shard],
) -> Models:
    """Lets the workers choose the batch, up to what becomes the size of a block.

    Args:
      models: As asked, without a batch size.
      infos: Of the models, in their order.
      gpu: Whether the workers have one.
      shards: What is read.
    """
    # As far as need be: there may be a million.
    sizes = itertools.accumulate(shard.size for shard in shards)
    tune = "measure" if any(size >= _WORTH_MEASURING for size in sizes) else "rule"
    embed, *label = (
        replace(spec, batch_size=_most(info.image_size, gpu=gpu), tune=tune)
        for spec, info in zip((spec for spec in models if spec), infos, strict=True)
    )
    return Models(embed, *label)


def block_rows(models: Models) -> int:
    """Images of a block: as many as the largest batch may have, or some batches."""
    chosen = any(spec.tune != "no" for spec in models if spec)
    least = _LEAST_BLOCK if chosen else 1
    return max(least, *(spec.batch_size for spec in models if spec))


def expects_gpu(options: RunOptions) -> bool:
    """Whether the workers have one, as far as can be told from here."""
    if options.runner == "DirectRunner":
        return machine.has_gpu()
    return bool(options.gpu) or any("accelerator" in text for text in options.beam)


def _most(image_size: int, *, gpu: bool) -> int:
    """A power of two."""
    if not gpu:
        return _CPU_IMAGES
    fits = _GPU_BYTES // (3 * image_size**2)
    return max(_LEAST, min(_GPU_IMAGES, 1 << (fits.bit_length() - 1 if fits else 0)))
