"""The convolutions of a BiT network as a table, written from its definition."""

import math
from dataclasses import dataclass

from transforms.bit.architecture import Architecture


@dataclass(frozen=True)
class Convolution:
    """One convolution, without padding of its own.

    Attributes:
      side: Of its square input, padded already.
      kernel: Its shape, HWIO.
      stride: In both directions.
    """

    side: int
    kernel: tuple[int, int, int, int]
    stride: int

    @property
    def side_out(self) -> int:
        """Of its output."""
        return (self.side - self.kernel[0]) // self.stride + 1

    @property
    def flop(self) -> int:
        """Multiplications and additions for one image."""
        return 2 * self.side_out**2 * math.prod(self.kernel)


def convolutions(architecture: Architecture, image_size: int) -> list[Convolution]:
    """All of a network, first to last."""
    channels = architecture.root_channels
    root = Convolution(image_size + 6, (7, 7, 3, channels), 2)
    # The pool after it: 3 x 3, stride 2, padded by 1.
    side = (root.side_out - 1) // 2 + 1
    found = [root]
    for unit in architecture.units():
        cin, mid, out = unit.channels_in, unit.channels, unit.channels_out
        if unit.projects:
            found.append(Convolution(side, (1, 1, cin, out), unit.stride))
        found.append(Convolution(side, (1, 1, cin, mid), 1))
        middle = Convolution(side + 2, (3, 3, mid, mid), unit.stride)
        side = middle.side_out
        found += [middle, Convolution(side, (1, 1, mid, out), 1)]
    return found


def gflop(architecture: Architecture, image_size: int) -> float:
    """Of the convolutions and the head, in 10^9 for one image."""
    layers = convolutions(architecture, image_size)
    head = 2 * architecture.embedding_size * architecture.classes
    return (sum(layer.flop for layer in layers) + head) / 1e9
