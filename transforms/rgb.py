"""Colours: whatever Pillow decodes, as 8-bit grey or RGB."""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB")
_WIDE = ("I;16", "I;16L", "I;16B", "I;16N")

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def check_mode(image: Image.Image) -> None:
    """Refuses what has no agreed black and white; needs no pixels.

    Raises:
      NotImplementedError: Says which pixels are meant.
    """
    if image.mode in (*_GREY, *_COLOUR, *_WIDE) or _is_wide_ppm(image):
        return
    kind = {"F": "floating-point", "I": "32-bit or signed"}.get(image.mode, image.mode)
    raise NotImplementedError(f"{kind} pixels have no agreed range; store 8 or 16 bits")


def to_rgb(image: Image.Image) -> Image.Image:
    """Makes a loaded image 8-bit, without alpha.

    16 bits are scaled, v / 257 rounded, where Pillow's own conversion clips at 255.
    What is transparent shows white. CMYK is converted as Pillow does, without a
    profile; so are all others but LAB.

    Returns:
      Mode `L` for grey, so that it is resized as one channel, else `RGB`.
    """
    if image.mode in _WIDE or image.mode == "I":
        return _narrow(image)
    if image.mode == "LAB":
        return _from_lab(image)
    base = "L" if image.mode in _GREY else "RGB"
    if image.has_transparency_data:
        return _over_white(image, base=base)
    return image if image.mode == base else image.convert(base)


def _is_wide_ppm(image: Image.Image) -> bool:
    """PGM above 8 bits: Pillow gives mode `I`, scaled to 65,535."""
    return image.mode == "I" and image.format == "PPM"


def _narrow(image: Image.Image) -> Image.Image:
    """16-bit grey to 8."""
    values = np.asarray(image).astype(np.uint32)
    tags: Any = getattr(image, "tag_v2", {})
    # Pillow hands out 12-bit TIFF unscaled, and 16-bit TIFF uninverted.
    white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    grey = (np.minimum(values, white) * 255 + white // 2) // white
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _over_white(image: Image.Image, *, base: str) -> Image.Image:
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        # A 16-bit PNG's transparent colour; Pillow keeps it whole but its pixels' top.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    layer = image.convert(f"{base}A")
    canvas = Image.new(base, image.size, "white")
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _from_lab(image: Image.Image) -> Image.Image:
    rgb = ImageCms.applyTransform(image, _lab_to_srgb())
    if rgb is None:
        raise ValueError("LAB could not be converted")
    return rgb


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"),
        ImageCms.createProfile("sRGB"),
        "LAB",
        "RGB",
        # The cache of one pixel is what threads would share.
        flags=ImageCms.Flags.NOCACHE,
    )
