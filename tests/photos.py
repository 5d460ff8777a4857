"""Real photographs for tests, and every encoding that bitbeam reads.

The photographs come with scikit-image and scikit-learn. What Pillow cannot write
(interlaced and 16-bit colour PNG, YCCK, 12-bit TIFF) is written here by hand.
"""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage.color
import skimage.data
import sklearn.datasets
import tifffile
from PIL import Image

_SCIKIT_IMAGE = (
    "astronaut.png",
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
_SCIKIT_LEARN = ("china.jpg", "flower.jpg")


@cache
def photographs() -> dict[str, Image.Image]:
    """Twelve photographs by name, RGB, 451 x 300 to 1411 x 1411 pixels."""
    folder = Path(skimage.data.__file__).parent
    paths = [folder / name for name in _SCIKIT_IMAGE]
    folder = Path(sklearn.datasets.__file__).parent / "images"
    paths += [folder / name for name in _SCIKIT_LEARN]
    return {path.stem: Image.open(path).convert("RGB") for path in paths}


def photograph(
    width: int = 64, height: int = 64, *, name: str = "china"
) -> Image.Image:
    """A photograph at any size."""
    return photographs()[name].resize((width, height), Image.Resampling.LANCZOS)


def encode(image: Image.Image, kind: str) -> bytes:
    """Encodes an RGB image as one of KINDS."""
    return _ENCODERS[kind](image)


def save(image: Image.Image, form: str, **options: Any) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def grey16(image: Image.Image) -> np.ndarray:
    """Grey, uint16 `[height, width]`, with values between those of 8 bits."""
    colour = np.asarray(image).astype(np.float64)
    return (colour @ [0.299, 0.587, 0.114] * 257).round().astype(np.uint16)


def rgb16(image: Image.Image) -> np.ndarray:
    """uint16 `[height, width, 3]`."""
    return np.asarray(image).astype(np.uint16) * 257


def disc(image: Image.Image) -> Image.Image:
    """An alpha channel: opaque in the middle, transparent in the corners."""
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    return Image.fromarray((255 * np.clip(1.4 - np.hypot(x, y), 0, 1)).astype(np.uint8))


def with_alpha(image: Image.Image, *, mode: str = "RGBA") -> Image.Image:
    """The image behind `disc`; mode `RGBA` or `LA`."""
    layered = image.convert(mode)
    layered.putalpha(disc(image))
    return layered


def png(
    pixels: np.ndarray,
    *,
    depth: int,
    colour: int,
    interlaced: bool = False,
    chunks: dict[bytes, bytes] | None = None,
) -> bytes:
    """A PNG of any depth and colour type.

    Args:
      pixels: `[height, width, channels]`, up to 2 ** depth - 1.
      depth: Bits of a sample.
      colour: PNG's colour type.
      interlaced: By Adam7.
      chunks: Placed before the pixels.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    passes = [pixels]
    if interlaced:
        passes = [pixels[y::dy, x::dx] for y, x, dy, dx in _ADAM7]
    rows = b"".join(
        b"\0" + _pack(row, depth=depth) for part in passes for row in part if row.size
    )
    body = {
        b"IHDR": header,
        **(chunks or {}),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, body, body.values()))


_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def _pack(row: np.ndarray, *, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits).tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + _crc(name + data)


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def _png_grey(depth: int, image: Image.Image) -> bytes:
    grey = grey16(image)[..., None] >> (16 - depth)
    return png(grey, depth=depth, colour=0)


def _png_rgb16(image: Image.Image) -> bytes:
    return png(rgb16(image), depth=16, colour=2)


def _png_interlaced(image: Image.Image) -> bytes:
    return png(np.asarray(image), depth=8, colour=2, interlaced=True)


def _png_trns(image: Image.Image) -> bytes:
    """The colour of the first pixel is transparent."""
    key = struct.pack(">HHH", *np.asarray(image)[0, 0])
    return png(np.asarray(image), depth=8, colour=2, chunks={b"tRNS": key})


def _png_palette(bits: int, image: Image.Image) -> bytes:
    return save(image.quantize(2**bits), "PNG", bits=bits)


def _jpeg_ycck(image: Image.Image) -> bytes:
    """Adobe's: YCbCr of the inverted CMY, inverted K, and a marker that says so."""
    cmyk = image.convert("CMYK")
    rgb = Image.merge("RGB", cmyk.split()[:3])
    planes = [*rgb.convert("YCbCr").split(), cmyk.split()[3].point(lambda k: 255 - k)]
    # Pillow inverts what it writes as CMYK.
    inverted = [plane.point(lambda v: 255 - v) for plane in planes]
    data = save(Image.merge("CMYK", inverted), "JPEG", quality=95, subsampling=0)
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    return data[:marker] + b"\2" + data[marker + 1 :]


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _tiff_grey16(image: Image.Image) -> bytes:
    return _tiff(grey16(image), photometric="minisblack")


def _tiff_white_is_zero(image: Image.Image) -> bytes:
    return _tiff(65535 - grey16(image), photometric="miniswhite")


def _tiff_rgb16(image: Image.Image) -> bytes:
    return _tiff(rgb16(image), photometric="rgb")


def _tiff_tiled(image: Image.Image) -> bytes:
    return _tiff(
        np.asarray(image), photometric="rgb", tile=(32, 32), compression="zlib"
    )


def _tiff_grey12(image: Image.Image) -> bytes:
    values = grey16(image) >> 4
    nibbles = np.stack([values >> 8, values >> 4 & 15, values & 15], axis=-1)
    packed = (nibbles.reshape(-1, 2) @ [16, 1]).astype(np.uint8).tobytes()
    sizes = {256: image.width, 257: image.height, 278: image.height}
    tags = {**sizes, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 279: len(packed)}
    entries = [struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def _tiff_lab(image: Image.Image) -> bytes:
    lab = skimage.color.rgb2lab(np.asarray(image))
    planes = [lab[..., 0] * 2.55, lab[..., 1] + 128, lab[..., 2] + 128]
    bytes_ = [Image.fromarray(plane.round().astype(np.uint8)) for plane in planes]
    return save(Image.merge("LAB", bytes_), "TIFF")


def _frames(form: str, image: Image.Image) -> bytes:
    """The image, then its negative."""
    negative = image.point(lambda v: 255 - v)
    return save(image, form, save_all=True, append_images=[negative])


def _as(form: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image], bytes]:
    return lambda image: save(image.convert(mode), form, **options)


_ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": _as("JPEG", quality=95, subsampling=0),
    "jpeg_progressive": _as("JPEG", quality=95, subsampling=0, progressive=True),
    "jpeg_grey": _as("JPEG", "L", quality=95),
    "jpeg_cmyk": _as("JPEG", "CMYK", quality=95),
    "jpeg_ycck": _jpeg_ycck,
    "mpo": partial(_frames, "MPO"),
    "png": _as("PNG"),
    "png_grey1": partial(_png_grey, 1),
    "png_grey2": partial(_png_grey, 2),
    "png_grey4": partial(_png_grey, 4),
    "png_grey8": partial(_png_grey, 8),
    "png_grey16": partial(_png_grey, 16),
    "png_rgb16": _png_rgb16,
    "png_palette1": partial(_png_palette, 1),
    "png_palette2": partial(_png_palette, 2),
    "png_palette4": partial(_png_palette, 4),
    "png_palette8": partial(_png_palette, 8),
    "png_rgba": lambda image: save(with_alpha(image), "PNG"),
    "png_la": lambda image: save(with_alpha(image, mode="LA"), "PNG"),
    "png_trns": _png_trns,
    "png_interlaced": _png_interlaced,
    "apng": partial(_frames, "PNG"),
    "webp": _as("WEBP", quality=95),
    "webp_lossless": _as("WEBP", lossless=True),
    "webp_rgba": lambda image: save(
        with_alpha(image), "WEBP", lossless=True, exact=True
    ),
    "webp_animated": lambda image: _frames("WEBP", image),
    "gif": lambda image: save(image.quantize(256), "GIF"),
    "gif_animated": lambda image: _frames("GIF", image.quantize(256).convert("RGB")),
    "bmp": _as("BMP"),
    "tiff": _as("TIFF"),
    "tiff_lzw": _as("TIFF", compression="tiff_lzw"),
    "tiff_deflate": _as("TIFF", compression="tiff_adobe_deflate"),
    "tiff_jpeg": _as("TIFF", compression="jpeg", quality=95),
    "tiff_bilevel": _as("TIFF", "1", compression="group4"),
    "tiff_cmyk": _as("TIFF", "CMYK"),
    "tiff_rgba": lambda image: save(with_alpha(image), "TIFF"),
    "tiff_grey12": _tiff_grey12,
    "tiff_grey16": _tiff_grey16,
    "tiff_white_is_zero": _tiff_white_is_zero,
    "tiff_rgb16": _tiff_rgb16,
    "tiff_lab": _tiff_lab,
    "tiff_tiled": _tiff_tiled,
    "tiff_pages": partial(_frames, "TIFF"),
    "avif": _as("AVIF", quality=95, subsampling="4:4:4"),
    "jpeg2000": _as("JPEG2000"),
    "ppm": _as("PPM"),
    "pgm16": lambda image: save(Image.fromarray(grey16(image)), "PPM"),
    "pcx": _as("PCX"),
    "sgi": _as("SGI"),
}
KINDS = tuple(_ENCODERS)
