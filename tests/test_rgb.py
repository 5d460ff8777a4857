"""What each encoding shows, against NumPy."""

import numpy as np
import pytest
from PIL import Image

from tests.photos import KINDS, disc, encode, photograph, png, save
from transforms.image import DecodeError, Preprocess, decode_image

PHOTO = photograph(64, 64)
COLOUR = np.asarray(PHOTO).astype(float)
GREY = np.repeat((COLOUR @ [0.299, 0.587, 0.114])[..., None], 3, axis=2)
ALPHA = np.asarray(disc(PHOTO)).astype(float)[..., None] / 255


def decoded(data: bytes, side: int = 64) -> np.ndarray:
    """Without a resize: `[side, side, 3]` float64."""
    out = np.empty((side, side, 3), np.uint8)
    size = decode_image(data, preprocess=Preprocess(sizes=(side,)), out=[out])
    assert size == (side, side)
    return out.astype(float)


EXACT = [
    "png",
    "png_rgb16",
    "png_interlaced",
    "apng",
    "webp_lossless",
    "bmp",
    "tiff",
    "tiff_lzw",
    "tiff_deflate",
    "tiff_cmyk",
    "tiff_rgb16",
    "tiff_tiled",
    "tiff_pages",
    "jpeg2000",
    "ppm",
    "pcx",
    "sgi",
]
# The mean difference that the encoder makes.
LOSSY = {
    "jpeg": 2.5,
    "jpeg_progressive": 2.5,
    "jpeg_cmyk": 1.5,
    "jpeg_ycck": 2.5,
    "tiff_jpeg": 1.5,
    "tiff_lab": 1.5,
    "avif": 2,
    "webp": 4,
    "webp_animated": 6,
    "mpo": 7,
}
# Levels that the samples' bits can be off by, and how far that is.
GREYS = {
    "jpeg_grey": 8,
    "png_grey8": 1,
    "png_grey16": 0.51,
    "pgm16": 0.51,
    "tiff_grey16": 0.51,
    "tiff_white_is_zero": 0.51,
    "tiff_grey12": 0.6,
    "png_grey4": 17,
    "png_grey2": 85,
    "png_grey1": 255,
}
PALETTES = {
    "png_palette1": 2,
    "png_palette2": 4,
    "png_palette4": 16,
    "png_palette8": 256,
    "gif": 256,
    "gif_animated": 256,
}


@pytest.mark.parametrize("kind", EXACT)
def test_lossless_colour_is_the_photograph(kind):
    np.testing.assert_array_equal(decoded(encode(PHOTO, kind)), COLOUR)


@pytest.mark.parametrize(("kind", "mean"), LOSSY.items())
def test_lossy_colour_is_near_the_photograph(kind, mean):
    assert np.abs(decoded(encode(PHOTO, kind)) - COLOUR).mean() < mean


@pytest.mark.parametrize(("kind", "most"), GREYS.items())
def test_grey_is_scaled_from_its_bits_to_255(kind, most):
    pixels = decoded(encode(PHOTO, kind))
    assert np.abs(pixels - GREY).max() <= most
    # Not clipped, and not left in the range of fewer bits.
    assert pixels.min() < 20
    assert pixels.max() > 180


@pytest.mark.parametrize(("kind", "colours"), PALETTES.items())
def test_palette_gives_its_colours(kind, colours):
    indexed = PHOTO.quantize(colours)
    palette = np.array(indexed.getpalette()).reshape(-1, 3)
    expected = palette[np.asarray(indexed)]
    np.testing.assert_array_equal(decoded(encode(PHOTO, kind)), expected)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("png_rgba", COLOUR),
        ("webp_rgba", COLOUR),
        ("tiff_rgba", COLOUR),
        ("png_la", GREY),
    ],
)
def test_what_is_transparent_shows_white(kind, shown):
    expected = shown * ALPHA + 255 * (1 - ALPHA)
    pixels = decoded(encode(PHOTO, kind))
    assert np.abs(pixels - expected).max() <= 1.01
    assert (pixels[0, 0] == 255).all()


def test_a_transparent_colour_shows_white():
    pixels = decoded(encode(PHOTO, "png_trns"))
    matches = (COLOUR[0, 0] == COLOUR).all(axis=-1, keepdims=True)
    np.testing.assert_array_equal(pixels, np.where(matches, 255, COLOUR))


@pytest.mark.parametrize(
    ("pixel", "depth", "colour", "key"),
    [
        ((0x1234,), 16, 0, b"\x12\x34"),
        ((0x1234, 0x5678, 0x9ABC), 16, 2, b"\x12\x34\x56\x78\x9a\xbc"),
        ((77,), 8, 0, b"\0\x4d"),
        ((0,), 1, 0, b"\0\0"),
    ],
)
def test_a_transparent_colour_of_any_depth_shows_white(pixel, depth, colour, key):
    pixels = np.full((8, 8, len(pixel)), 1 if depth == 1 else 0)
    pixels[2, 3] = pixel
    shown = decoded(png(pixels, depth=depth, colour=colour, chunks={b"tRNS": key}), 8)
    assert (shown[2, 3] == 255).all()
    assert (shown[0, 0] == (255 if depth == 1 else 0)).all()


def test_a_transparent_palette_entry_shows_white():
    indexed = PHOTO.quantize(16)
    data = save(indexed, "PNG", transparency=int(np.asarray(indexed)[0, 0]))
    shown = decoded(data)
    see_through = np.asarray(indexed) == np.asarray(indexed)[0, 0]
    assert (shown[see_through] == 255).all()
    np.testing.assert_array_equal(
        shown[~see_through], np.asarray(indexed.convert("RGB"))[~see_through]
    )


def test_16_bits_are_divided_by_257_and_rounded():
    values = np.array([[0, 128, 129, 385, 386, 32896, 65406, 65407, 65535]], np.uint16)
    values = np.repeat(values, 9, axis=0)
    shown = decoded(png(values[..., None], depth=16, colour=0), 9)
    assert shown[0, :, 0].tolist() == [0, 0, 1, 1, 2, 128, 254, 255, 255]


def test_bilevel_tiff_is_black_and_white():
    expected = np.asarray(PHOTO.convert("1")).astype(float)[..., None] * 255
    shown = decoded(encode(PHOTO, "tiff_bilevel"))
    np.testing.assert_array_equal(shown, np.repeat(expected, 3, axis=2))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_range_are_unsupported(mode):
    data = save(PHOTO.convert("L").convert(mode), "TIFF")
    with pytest.raises(DecodeError) as caught:
        decoded(data)
    assert caught.value.error == "unsupported_image"
    assert "store 8 or 16 bits" in caught.value.message


def test_every_kind_is_tested_here():
    alpha = {"png_rgba", "webp_rgba", "tiff_rgba", "png_la", "png_trns"}
    assert {*EXACT, *LOSSY, *GREYS, *PALETTES, *alpha, "tiff_bilevel"} == set(KINDS)


def test_modes_agree_when_resized():
    """Grey goes through the resize as one channel, and comes out as three would."""
    large = photograph(300, 200).convert("L")
    out = [np.empty((64, 64, 3), np.uint8) for _ in range(2)]
    for image, square in zip(
        [large, Image.merge("RGB", [large] * 3)], out, strict=True
    ):
        decode_image(
            save(image, "PNG"), preprocess=Preprocess(sizes=(64,)), out=[square]
        )
    np.testing.assert_array_equal(*out)
