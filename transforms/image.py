"""One encoded image to pixels: a function on values, without Beam.

Pillow decodes. What it may be given is bounded here: which formats, how many pixels,
and that whatever it throws on bad bytes is one kind of error.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from PIL import AvifImagePlugin, Image, JpegImagePlugin
from PIL import ImageFile as image_file
from PIL.ImageFile import ImageFile

from transforms import resize, rgb
from transforms.resize import Pixels

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "TIFF",
    "BMP",
    "AVIF",
    "JPEG2000",
    "PPM",
    "PCX",
    "SGI",
    "SUN",
)
"""What is read, by Pillow's names, MPO as JPEG. Not read: what runs a program (EPS),
is a stub (WMF, HDF5, GRIB, BUFR), has no signature (TGA), decodes in Python (QOI, BLP)
or nests images whose size the header does not tell (ICO, ICNS)."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_TO_LEFT = (2, 3, 6, 7)
_TURNS_TO_TOP = (3, 4, 7, 8)

_START_OF_SCAN = b"\xff\xda"
_MAX_SCANS = 500

_BAD_METADATA = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
_CUT = re.compile(
    r"truncat|unexpected end|end of file|only got|not enough|\beof\b", re.I
)
_UNSUPPORTED = re.compile(
    r"unsupported|unknown pixel mode|not (yet )?supported|not (available|installed)",
    re.I,
)

# Registers the plugins now, on one thread; only FORMATS are ever asked.
Image.init()
# An AVIF decoder would start a thread a core for each of our threads.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
# Pillow reads and packs in pieces of this size, and joins them. Most encoded images,
# and a square of 224 pixels, are one piece of this, and less is copied.
image_file.MAXBLOCK = 1 << 18
# Pillow warns on stderr of each oddity of each image, and of sizes that are ours to
# judge. What matters comes as an error.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes pixels.

    Attributes:
      sizes: Sides of the squares in pixels, one for each model.
      resize: `antialias` or `bilinear`.
      fit: `stretch`, `crop` or `pad`.
      max_pixels: An image of more is not decoded.

    Raises:
      ValueError: A value is not possible.
    """

    sizes: tuple[int, ...] = (224,)
    resize: str = "antialias"
    fit: str = "stretch"
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes must be one or more, all different: {self.sizes}")
        if min(self.sizes) < 1:
            raise ValueError(f"an image size must be at least 1: {min(self.sizes)}")
        if self.resize not in resize.RESIZES:
            raise ValueError(f"resize must be one of {resize.RESIZES}: {self.resize!r}")
        if self.fit not in resize.FITS:
            raise ValueError(f"fit must be one of {resize.FITS}: {self.fit!r}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1: {self.max_pixels}")


class DecodeError(Exception):
    """An image that gives no pixels.

    Attributes:
      error: `empty_image`, `not_an_image`, `truncated_image`, `corrupt_image`,
        `too_large` or `unsupported_image`.
      message: One line for a person.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = message

    def __str__(self) -> str:
        return f"{self.error}: {self.message}"


def decode_image(
    data: bytes, *, preprocess: Preprocess, out: Sequence[Pixels]
) -> tuple[int, int]:
    """Decodes an image once and resizes it to each size.

    Safe to call from many threads; the decoders and the resize release the GIL.

    Args:
      data: The encoded image, whole.
      preprocess: How.
      out: A `[size, size, 3]` array for each of `preprocess.sizes`, overwritten. RGB.

    Returns:
      Width and height as encoded, after EXIF orientation.

    Raises:
      DecodeError: The bytes are not an image that can be decoded. What is in `out`
        is then undefined.
      ValueError: The shapes of `out` are not those of the sizes.
    """
    if [square.shape for square in out] != [(n, n, 3) for n in preprocess.sizes]:
        raise ValueError(f"out must be [size, size, 3] for each of {preprocess.sizes}")
    if not data:
        raise DecodeError("empty_image", "the image has no bytes")
    factory, form = _identify(data[:16])
    try:
        file = io.BytesIO(_without_exif(data) if form == "AVIF" else data)
        with closing(factory(file, "")) as image:
            _check_scans(image, data)
            return _decode(image, preprocess=preprocess, out=out)
    except DecodeError:
        raise
    except Exception as failure:
        # The bad-record boundary. Decoders throw whatever bad bytes make of them;
        # seen were OSError, SyntaxError, ValueError, RuntimeError, OverflowError and
        # AttributeError. The caller counts each by its name.
        raise _explain(failure, form=form) from failure


def _identify(prefix: bytes) -> tuple[Callable[[io.BytesIO, str], ImageFile], str]:
    for form in FORMATS:
        factory, accept = Image.OPEN[form]
        accepted = accept is not None and accept(prefix)
        if isinstance(accepted, str):
            raise DecodeError("unsupported_image", accepted)
        if accepted:
            # Pillow's own factory for JPEG looks for an MPO index, and fails where
            # that is damaged. The first image is the same without it.
            return JpegImagePlugin.JpegImageFile if form == "JPEG" else factory, form
    raise DecodeError(
        "not_an_image", f"starts as no image format that is read: {prefix!r}"
    )


def _without_exif(avif: bytes) -> bytes:
    """Hides EXIF from the AVIF decoder, which refuses the image where it is damaged.

    Nothing is lost: AVIF's orientation is in boxes of its own.
    """
    boxes, mdat, media = avif.partition(b"mdat")
    return boxes.replace(b"Exif", b"none") + mdat + media


def _check_scans(image: ImageFile, data: bytes) -> None:
    """Refuses a progressive JPEG that is made to take hours.

    Each scan goes over the whole picture and may be but a few hundred bytes. Real
    ones have ten or so.
    """
    if "progressive" in image.info and data.count(_START_OF_SCAN) > _MAX_SCANS:
        raise DecodeError("corrupt_image", f"JPEG: more than {_MAX_SCANS} scans")


def _decode(
    image: ImageFile, *, preprocess: Preprocess, out: Sequence[Pixels]
) -> tuple[int, int]:
    _check_size(image.size, limit=preprocess.max_pixels)
    rgb.check_mode(image)
    picture = _load(image, preprocess=preprocess)
    for side, square in zip(preprocess.sizes, out, strict=True):
        placement = resize.place(
            picture.width, picture.height, side=side, fit=preprocess.fit
        )
        resize.fill(
            picture.image,
            picture.to_image(placement),
            resize=preprocess.resize,
            out=square,
        )
    return picture.width, picture.height


def _check_size(size: tuple[int, int], *, limit: int) -> None:
    width, height = size
    if width * height > limit:
        raise DecodeError(
            "too_large",
            f"{width} x {height} pixels is above the limit of {limit} (--max_pixels)",
        )
    # Pillow has a limit of its own, for the process, which some plugins ask again.
    # It is raised to ours where ours is higher, and never lowered.
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limit)


@dataclass(frozen=True)
class _Picture:
    """A decoded picture, upright, perhaps at a fraction of its size.

    Attributes:
      image: `L` or `RGB`.
      width: Of the picture at full size; as `height`.
      scale: 1, 2, 4 or 8: how much smaller `image` is.
      left: Pixels of `image` left of the picture, under 1; `top` above it. A width
        that `scale` does not divide leaves a fraction of a column beyond the
        picture's edge.
    """

    image: Image.Image
    width: int
    height: int
    scale: int = 1
    left: float = 0.0
    top: float = 0.0

    def to_image(self, placement: resize.Placement) -> resize.Placement:
        """The same placement, its box in pixels of `image`."""
        left, top, right, bottom = (edge / self.scale for edge in placement.box)
        box = (left + self.left, top + self.top, right + self.left, bottom + self.top)
        return resize.Placement(box, placement.size, placement.offset)


def _load(image: ImageFile, *, preprocess: Preprocess) -> _Picture:
    width, height = image.size
    scale = 1
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        scale = resize.draft_scale(
            width,
            height,
            sides=preprocess.sizes,
            resize=preprocess.resize,
            fit=preprocess.fit,
        )
        image.draft(None, (width // scale, height // scale))
    image.load()
    if scale == 1:
        # TIFF turns itself upright while it loads, a GIF's frame may exceed its header.
        width, height = image.size
    orientation = _orientation(image)
    upright = rgb.to_rgb(image)
    if orientation in _TURNS:
        upright = upright.transpose(_TURNS[orientation])
    if orientation >= 5:
        width, height = height, width
    spare = upright.width - width / scale, upright.height - height / scale
    return _Picture(
        upright,
        width,
        height,
        scale,
        left=spare[0] if orientation in _TURNS_TO_LEFT else 0.0,
        top=spare[1] if orientation in _TURNS_TO_TOP else 0.0,
    )


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BAD_METADATA:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _explain(failure: Exception, *, form: str) -> DecodeError:
    text = " ".join(str(failure).split())[:200] or type(failure).__name__
    message = f"{form}: {text}".encode(errors="replace").decode()
    if isinstance(failure, Image.DecompressionBombError):
        return DecodeError(
            "too_large", f"{form}: a frame is above the limit of pixels (--max_pixels)"
        )
    if isinstance(failure, MemoryError):
        return DecodeError("too_large", f"{form}: does not fit into memory")
    if isinstance(failure, NotImplementedError) or _UNSUPPORTED.search(text):
        return DecodeError("unsupported_image", message)
    if isinstance(failure, EOFError | struct.error) or _CUT.search(text):
        return DecodeError("truncated_image", message)
    return DecodeError("corrupt_image", message)
