"""The ResNet-v2 family of BiT as a table, and its tensors by name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .spec import ModelError

Shape = tuple[int, ...]

UNITS = {
    # Not of the collection: the smallest network with every kind of layer, for dry
    # runs.
    "R14": (1, 1, 1, 1),
    "R50": (3, 4, 6, 3),
    "R101": (3, 4, 23, 3),
    "R152": (3, 8, 36, 3),
}
"""Residual units of the four blocks, by depth."""

GROUPS = 32
"""Channel groups of every group norm."""

ROOT_KERNEL = "resnet/root_block/standardized_conv2d/kernel"
HEAD_KERNEL = "resnet/head/conv2d/kernel"
HEAD_BIAS = "resnet/head/conv2d/bias"


@dataclass(frozen=True)
class Unit:
    """One bottleneck unit.

    Attributes:
      path: Prefix of its tensors' names, as in `resnet/block1/unit01`.
      channels_in: Channels that come in.
      channels: Channels inside; four times as many go out.
      stride: Of its 3x3 convolution, and of its projection.
    """

    path: str
    channels_in: int
    channels: int
    stride: int

    @property
    def channels_out(self) -> int:
        """Channels that go out."""
        return 4 * self.channels

    @property
    def projects(self) -> bool:
        """Whether the shortcut is a convolution, not the input itself."""
        return self.stride > 1 or self.channels_in != self.channels_out

    def shapes(self) -> dict[str, Shape]:
        """The unit's tensors by full name, in checkpoint order."""
        conv = "standardized_conv2d/kernel"
        cin, mid, out = self.channels_in, self.channels, self.channels_out
        shapes = _norm_shapes(f"{self.path}/a", cin)
        if self.projects:
            shapes[f"{self.path}/a/proj/{conv}"] = (1, 1, cin, out)
        shapes[f"{self.path}/a/{conv}"] = (1, 1, cin, mid)
        shapes |= _norm_shapes(f"{self.path}/b", mid)
        shapes[f"{self.path}/b/{conv}"] = (3, 3, mid, mid)
        shapes |= _norm_shapes(f"{self.path}/c", mid)
        shapes[f"{self.path}/c/{conv}"] = (1, 1, mid, out)
        return shapes


@dataclass(frozen=True)
class Architecture:
    """One network of the family.

    Attributes:
      depth: A key of UNITS.
      width: Factor of all channels.
      classes: Of the head; 0: it has none.
    """

    depth: str
    width: int
    classes: int = 0

    @property
    def name(self) -> str:
        """As in `R50x1`; says nothing of the head."""
        return f"{self.depth}x{self.width}"

    @property
    def embedding_size(self) -> int:
        """Length of the pooled features."""
        return 2048 * self.width

    @property
    def root_channels(self) -> int:
        """Channels out of the first convolution."""
        return 64 * self.width

    @property
    def parameters(self) -> int:
        """How many numbers all tensors have together."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def units(self) -> tuple[Unit, ...]:
        """All residual units, first to last."""
        units = []
        channels_in = self.root_channels
        for block, count in enumerate(UNITS[self.depth], start=1):
            channels = self.root_channels * 2 ** (block - 1)
            for index in range(1, count + 1):
                path = f"resnet/block{block}/unit{index:02}"
                stride = 2 if block > 1 and index == 1 else 1
                units.append(Unit(path, channels_in, channels, stride))
                channels_in = 4 * channels
        return tuple(units)

    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors by name, as the official checkpoints have them.

        Convolution kernels are HWIO and raw, that is, not yet standardized.
        (google-research/big_transfer, bit_pytorch/models.py, `load_from`.)
        """
        shapes: dict[str, Shape] = {ROOT_KERNEL: (7, 7, 3, self.root_channels)}
        for unit in self.units():
            shapes |= unit.shapes()
        shapes |= _norm_shapes("resnet", self.embedding_size)
        if self.classes:
            shapes[HEAD_KERNEL] = (1, 1, self.embedding_size, self.classes)
            shapes[HEAD_BIAS] = (self.classes,)
        return shapes

    @classmethod
    def parse(cls, name: str, *, classes: int = 0) -> "Architecture":
        """Reads a name such as `R50x1`.

        Raises:
          ModelError: It is no architecture of the family.
        """
        match = re.fullmatch(r"(R\d+)x([1-9]\d?)", name)
        if not match or match[1] not in UNITS:
            depths = ", ".join(UNITS)
            raise ModelError(
                f"architecture {name!r} is unknown: give one of {depths}, "
                "then x and the width, as in R50x1"
            )
        return cls(match[1], int(match[2]), classes)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Shape]) -> "Architecture":
        """Reads the architecture off a checkpoint's tensors.

        Args:
          shapes: Of all tensors, by canonical name.

        Raises:
          ModelError: A tensor is missing, one too many, or of the wrong shape; it
            is named.
        """
        width = _width(shapes)
        classes = _classes(shapes)
        found = set(shapes)
        candidates = [cls(depth, width, classes) for depth in UNITS]
        nearest = min(candidates, key=lambda one: len(found ^ set(one.shapes())))
        _compare(shapes, nearest)
        return nearest


def canonical_name(name: str) -> str:
    """A tensor's name without what exporters add to it.

    Drops `:0`, any prefix before `resnet/`, and the number of
    `standardized_conv2d_7`, which some official files have (google-research/
    big_vision, big_vision/models/bit_paper.py, `load`).
    """
    name = re.sub(r":\d+$", "", name)
    name = re.sub(r"^.*?(?=\bresnet/)", "", name)
    return re.sub(r"/standardized_conv2d_\d+/", "/standardized_conv2d/", name)


def _norm_shapes(path: str, channels: int) -> dict[str, Shape]:
    return {
        f"{path}/group_norm/gamma": (channels,),
        f"{path}/group_norm/beta": (channels,),
    }


def _width(shapes: Mapping[str, Shape]) -> int:
    root = shapes.get(ROOT_KERNEL)
    if root is None:
        raise ModelError(f"tensor {ROOT_KERNEL} is missing: this is no BiT model")
    width, rest = divmod(root[-1] if root else 0, 64)
    if rest or width < 1 or root[:-1] != (7, 7, 3):
        raise ModelError(
            f"tensor {ROOT_KERNEL} has shape {root}, not (7, 7, 3, 64 times the width)"
        )
    return width


def _classes(shapes: Mapping[str, Shape]) -> int:
    if HEAD_KERNEL not in shapes and HEAD_BIAS not in shapes:
        return 0
    for name in (HEAD_KERNEL, HEAD_BIAS):
        if name not in shapes:
            raise ModelError(f"tensor {name} is missing: the head is incomplete")
    bias = shapes[HEAD_BIAS]
    if len(bias) != 1 or bias[0] < 1:
        raise ModelError(f"tensor {HEAD_BIAS} has shape {bias}, not (classes,)")
    return bias[0]


def _compare(shapes: Mapping[str, Shape], architecture: Architecture) -> None:
    expected = architecture.shapes()
    for name, shape in expected.items():
        if name not in shapes:
            raise ModelError(f"tensor {name} of {architecture.name} is missing")
        if shapes[name] != shape:
            raise ModelError(
                f"tensor {name} has shape {shapes[name]}; "
                f"{architecture.name} has {shape}"
            )
    for name in shapes:
        if name not in expected:
            raise ModelError(f"tensor {name} is none of {architecture.name}'s")
