"""Rates and prices, from a dated file that anybody may edit."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from transforms.bit import ModelInfo
from transforms.bit.architecture import ROOT_KERNEL, Architecture

from .errors import UsageError

PACKAGED = Path(__file__).with_name("rates.json")


class Range(NamedTuple):
    """From the least to the most that is to be expected."""

    least: float
    most: float

    def times(self, least: float, most: float | None = None) -> "Range":
        """Both ends multiplied, by the same or each by its own."""
        return Range(self.least * least, self.most * (least if most is None else most))


@dataclass(frozen=True)
class Machine:
    """A kind of machine.

    Attributes:
      name: For the table.
      device: A key of `Rates.devices`.
      vcpus: That decode.
      gb_per_s: Of its network.
      usd_per_hour: Of the whole machine.
    """

    name: str
    device: str
    vcpus: int
    gb_per_s: Range
    usd_per_hour: Range


@dataclass(frozen=True)
class Rates:
    """What is known of machines.

    Attributes:
      dated: When it was put together.
      devices: By name, as the file has them.
      decode: Megapixels of an image and milliseconds of a vCPU, ascending.
      slower: By how much a vCPU may be slower than the one that was measured.
      machines: To reckon with.
    """

    dated: str
    devices: Mapping[str, Mapping[str, Any]]
    decode: Sequence[tuple[float, float]]
    slower: float
    machines: tuple[Machine, ...]

    def is_cpu(self, machine: Machine) -> bool:
        """Whether model and decoding share the machine's vCPUs."""
        return bool(self.devices[machine.device].get("is_cpu"))

    def decode_ms(self, megapixels: float) -> Range:
        """Milliseconds of one vCPU for an image, between and beyond what is known."""
        pairs = list(itertools.pairwise(self.decode))
        fitting = (pair for pair in pairs if megapixels <= pair[1][0])
        (x0, y0), (x1, y1) = next(fitting, pairs[-1])
        milliseconds = y0 + (y1 - y0) * (megapixels - x0) / (x1 - x0)
        return Range(milliseconds, milliseconds * self.slower)

    def model_rate(
        self, machine: Machine, info: ModelInfo, *, precision: str
    ) -> Range | None:
        """Images a second of one model on a machine; None: nothing is known of it.

        From the model and size that is nearest in multiplications, by their ratio.
        """
        device = self.devices[machine.device]
        work = gmacs(info.architecture, image_size=info.image_size)
        if work is None:
            return None
        known = self.devices[device["like"]] if "like" in device else device
        least, most, there = min(
            (
                (*rate, gmacs(name, image_size=size) or math.inf)
                for name, size, rate in known["model"]
            ),
            key=lambda entry: abs(math.log(entry[2] / work)),
        )
        rate = Range(least, most).times(there / work)
        if "like" in device:
            rate = rate.times(*device["factor"])
        if precision == "float32":
            rate = rate.times(device["float32"])
        return rate.times(machine.vcpus) if device.get("is_cpu") else rate


def read_rates(path: Path = PACKAGED) -> Rates:
    """Reads a file of rates.

    Raises:
      UsageError: There is none, or something is missing in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        machines = tuple(
            Machine(
                name=each["name"],
                device=each["device"],
                vcpus=int(each["vcpus"]),
                gb_per_s=Range(*each["gb_per_s"]),
                usd_per_hour=Range(*each["usd_per_hour"]),
            )
            for each in content["machines"]
        )
        devices = content["devices"]
        for machine in machines:
            device = devices[machine.device]
            _ = (
                devices[device["like"]]["model"]
                if "like" in device
                else device["model"]
            )
        decode = [
            (float(size), float(ms)) for size, ms in content["decode"]["megapixels_ms"]
        ]
        slower = float(content["decode"]["slower"])
        return Rates(content["dated"], devices, decode, slower, machines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--rates {path} cannot be used: {error!r}") from error


def gmacs(architecture: str, *, image_size: int) -> float | None:
    """Multiplications of the convolutions for one image, in billions.

    None where the architecture is none of BiT's, or not known.
    """
    try:
        network = Architecture.parse(architecture)
    except ValueError:
        return None
    shapes = network.shapes()
    side = -(-image_size // 2)
    total = side * side * math.prod(shapes[ROOT_KERNEL])
    side = -(-side // 2)  # max pooling
    for unit in network.units():
        inside = -(-side // unit.stride)
        for name, shape in unit.shapes().items():
            if name.endswith("kernel"):
                # Only the first 1x1 convolution is before the stride.
                is_first = name == f"{unit.path}/a/standardized_conv2d/kernel"
                at = side if is_first else inside
                total += at * at * math.prod(shape)
        side = inside
    return total / 1e9
