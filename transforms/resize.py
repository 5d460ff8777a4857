"""Pictures to squares: which part of a picture goes where, and through which filter.

`antialias` is Pillow's triangle filter, widened to the scale when it shrinks.
`bilinear` is `tf.image.resize(method="bilinear", antialias=False)`: two taps a
direction whatever the scale, at half-pixel centres. The code that BiT was published
with resizes so, hence its choice; on photographs it aliases.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

RESIZES = ("antialias", "bilinear")
FITS = ("stretch", "crop", "pad")

Pixels = npt.NDArray[np.uint8]

_DRAFT_GAP = 2
_REDUCING_GAP = 3.0
# An image is shrunk by a cheap filter (JPEG's DCT, a box) only while it stays this
# many times the target, so that the triangle filter still decides the result.
# docs/images.md has the bound that follows, and a test holds it. The second also
# bounds memory: without it a picture of 1 x 100,000,000 pixels would be widened to
# 224 columns before its height is looked at, which is 90 GB.


@dataclass(frozen=True)
class Placement:
    """Which part of a picture becomes which part of a square.

    Attributes:
      box: Left, top, right, bottom of the part, in pixels of the picture, fractional.
      size: Width and height that the part is resized to.
      offset: Left and top of the result in the square.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    offset: tuple[int, int]


def place(width: int, height: int, *, side: int, fit: str) -> Placement:
    """Places a picture in a square.

    Args:
      width: Of the picture.
      height: Of the picture.
      side: Of the square.
      fit: `stretch` distorts; `crop` takes the centre square, as resizing the
        shorter side to `side` and cropping would; `pad` fits the longer side and
        centres the rest on black, as `tf.image.resize_with_pad` does.
    """
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        box = (left, top, left + short, top + short)
        return Placement(box, (side, side), (0, 0))
    if fit == "pad":
        # In integers: TensorFlow's float32 makes 223 of 224 for some widths.
        long = max(width, height)
        size = (max(1, width * side // long), max(1, height * side // long))
        return Placement(whole, size, _margins(width, height, side=side))
    return Placement(whole, (side, side), (0, 0))


def _margins(width: int, height: int, *, side: int) -> tuple[int, int]:
    """Half of what is left, of the exact size and not the rounded, rounded down."""
    long = max(width, height)

    def margin(length: int) -> int:
        return min((long - length) * side // (2 * long), side - 1)

    return margin(width), margin(height)


def draft_scale(
    width: int, height: int, *, sides: tuple[int, ...], resize: str, fit: str
) -> int:
    """By how much a JPEG may be shrunk while it is decoded: 1, 2, 4 or 8."""
    if resize != "antialias":
        return 1
    placements = [place(width, height, side=side, fit=fit) for side in sides]
    room = min(min(_ratios(placement)) for placement in placements)
    return next((scale for scale in (8, 4, 2) if scale * _DRAFT_GAP <= room), 1)


def _ratios(placement: Placement) -> tuple[float, float]:
    left, top, right, bottom = placement.box
    width, height = placement.size
    return (right - left) / width, (bottom - top) / height


def fill(image: Image.Image, placement: Placement, *, resize: str, out: Pixels) -> None:
    """Resizes a picture into a square.

    Args:
      image: Mode `L` or `RGB`.
      placement: Its box in pixels of `image`.
      resize: `antialias` or `bilinear`.
      out: `[side, side, 3]`, overwritten.
    """
    left, top = placement.offset
    width, height = placement.size
    method = bilinear if resize == "bilinear" else antialias
    if (height, width) != out.shape[:2]:
        out[...] = 0
    out[top : top + height, left : left + width] = method(image, placement)


def antialias(image: Image.Image, placement: Placement) -> Pixels:
    """Pillow's bilinear resize: `[height, width, 1 or 3]`."""
    small = image.resize(
        placement.size,
        Image.Resampling.BILINEAR,
        box=placement.box,
        reducing_gap=_REDUCING_GAP,
    )
    # As `np.asarray` does it, in half of its calls.
    pixels = np.frombuffer(small.tobytes(), np.uint8)
    return pixels.reshape(small.height, small.width, -1)


def bilinear(image: Image.Image, placement: Placement) -> Pixels:
    """TensorFlow's bilinear resize, rounded: `[height, width, 1 or 3]`."""
    left, top, right, bottom = placement.box
    width, height = placement.size
    y = _taps(top, bottom, count=height, length=image.height)
    x = _taps(left, right, count=width, length=image.width)
    words = _words(image)
    columns = np.concatenate([x.lower, x.upper])
    lower = _gather(words, rows=y.lower, columns=columns)
    upper = _gather(words, rows=y.upper, columns=columns)
    both = _lerp(lower, upper, y.weight[:, None])
    # Two dimensions: NumPy is slow where the last is a pixel's few channels.
    left_taps, right_taps = np.hsplit(both, 2)
    weight = np.repeat(x.weight, words.itemsize)
    mixed = _lerp(left_taps, right_taps, weight)
    mixed += np.float32(0.5)
    return mixed.astype(np.uint8).reshape(height, width, -1)[..., :3]


@dataclass(frozen=True)
class _Taps:
    lower: npt.NDArray[np.intp]
    upper: npt.NDArray[np.intp]
    weight: npt.NDArray[np.float32]


def _taps(start: float, stop: float, *, count: int, length: int) -> _Taps:
    """Of each of `count` results in `[start, stop)`: two neighbours, and the weight
    of the upper.

    Beyond the picture's edge its last pixel goes on. Positions are float64: in
    float32 they are off by a hundredth of a pixel at 65,535.
    """
    at = start + (np.arange(count) + 0.5) * ((stop - start) / count) - 0.5
    floor = np.floor(at)
    lower = floor.astype(np.intp)
    return _Taps(
        lower=np.clip(lower, 0, length - 1),
        upper=np.clip(lower + 1, 0, length - 1),
        weight=(at - floor).astype(np.float32),
    )


def _words(image: Image.Image) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`[height, width]`, a pixel a word: gathering words is three times as fast as
    gathering triples of bytes."""
    if image.mode == "L":
        words = np.frombuffer(image.tobytes(), np.uint8)
    else:
        words = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32)
    return words.reshape(image.height, image.width)


def _gather(
    words: npt.NDArray[np.unsignedinteger[Any]],
    *,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
) -> npt.NDArray[np.float32]:
    """`[rows, columns * bytes of a word]`."""
    return words[rows[:, None], columns].view(np.uint8).astype(np.float32)


def _lerp(
    low: npt.NDArray[np.float32],
    high: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Overwrites `high` with the mix of the two."""
    high -= low
    high *= weight
    high += low
    return high
