"""Images that are made to cost more than they are worth."""

import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import encode, photograph, png, save
from tests.test_image import decode, fault


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def huge(form: str) -> bytes:
    """A small file whose header says 50,000 x 50,000, or the format's most."""
    side = 50_000
    if form == "png":
        data = png(np.zeros((1, 8, 1), int), depth=8, colour=0)
        header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        return patched(data, 12, header + struct.pack(">I", zlib.crc32(header)))
    data = encode(photograph(), form.removesuffix("_frame"))
    if form == "jpeg":
        at = data.index(b"\xff\xc0") + 5
        return patched(data, at, struct.pack(">HH", side, side))
    if form == "gif":
        return patched(data, 6, struct.pack("<HH", side, side))
    if form == "gif_frame":
        at = data.index(b"\x2c\0\0\0\0") + 5
        return patched(data, at, struct.pack("<HH", side, side))
    if form == "bmp":
        return patched(data, 18, struct.pack("<II", side, side))
    if form == "webp":
        at = data.index(b"VP8 ") + 14
        return patched(data, at, struct.pack("<HH", 16383, 16383))
    if form == "webp_animated":
        return patched(data, 24, b"\xfe\x3f\0\xfe\x3f\0")
    if form == "jpeg2000":
        at = data.index(b"ihdr") + 4
        return patched(data, at, struct.pack(">II", side, side))
    assert form == "tiff"
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 4, 1))
        data = patched(data, at + 8, struct.pack("<I", side))
    return data


@pytest.mark.parametrize(
    "form",
    [
        "png",
        "jpeg",
        "gif",
        "gif_frame",
        "bmp",
        "webp",
        "webp_animated",
        "jpeg2000",
        "tiff",
    ],
)
def test_a_huge_image_is_refused_before_it_is_decoded(form):
    data = huge(form)
    began = time.perf_counter()
    error = fault(data)
    assert time.perf_counter() - began < 0.1
    assert error.error == "too_large"
    assert "--max_pixels" in error.message
    if form != "gif_frame":
        assert "above the limit of 100000000" in error.message


def test_huge_images_take_no_memory():
    program = (
        "from tests.test_image_limits import fault, huge, peak_kib\n"
        "forms = ['png', 'jpeg', 'gif', 'bmp', 'webp', 'jpeg2000', 'tiff']\n"
        "files = [huge(form) for form in forms]\n"
        "before = peak_kib()\n"
        "for file in files * 3: assert fault(file).error == 'too_large'\n"
        "print(peak_kib() - before)\n"
    )
    assert int(printed_by(program)) < 8_000


def printed_by(program: str) -> str:
    """Of a fresh process, which must write nothing to stderr."""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout


def peak_kib() -> int:
    """Not getrusage's, which begins with that of the process that forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_a_compressed_text_that_unpacks_to_200_mb_is_an_error(chunk):
    bomb = b"name\0\0" + zlib.compress(bytes(200_000_000), 9)
    pixels = np.zeros((8, 8, 1), int)
    data = png(pixels, depth=8, colour=0, chunks={chunk: bomb})
    began = time.perf_counter()
    assert fault(data).error == "corrupt_image"
    assert time.perf_counter() - began < 0.2


def test_a_jpeg_of_a_thousand_scans_is_refused():
    data = encode(photograph(), "jpeg_progressive")
    assert decode(data)[1] == (64, 64)
    assert fault(data + b"\xff\xda" * 501).error == "corrupt_image"


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_the_limit_is_exact_and_holds_above_pillows(form, monkeypatch):
    # TIFF asks Pillow's own limit once more, which is 178,956,970.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
    options = {"compression": "group4"} if form == "TIFF" else {}
    image = save(Image.new("1", (20_000, 10_000)), form, **options)
    assert fault(image, max_pixels=199_999_999).error == "too_large"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(image, max_pixels=200_000_000)[1] == (20_000, 10_000)


def test_a_long_thin_image_within_the_limit_is_not_widened_whole():
    """1 x 10,000,000 grey pixels are 10 MB, and at 224 columns 2.2 GB."""
    program = (
        "from tests.test_image_limits import decode, peak_kib, thin\n"
        "data = thin(10_000_000)\n"
        "before = peak_kib()\n"
        "assert decode(data, sizes=(224,))[1] == (1, 10_000_000)\n"
        "print(peak_kib() - before)\n"
    )
    assert int(printed_by(program)) < 500_000


def thin(height: int) -> bytes:
    """A black PNG one pixel wide."""
    header = struct.pack(">IIBBBBB", 1, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(2 * height))
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + _crc(name + body)
        for name, body in chunks
    )


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def test_nothing_is_printed_of_what_is_odd_about_an_image():
    program = (
        "from tests.test_image_limits import *\n"
        "exif = b'Exif\\0\\0MM\\0*\\0\\0\\0\\x08\\0\\x09'\n"
        "bad = save(photograph(24, 16), 'JPEG', exif=exif)\n"
        "assert decode(bad)[1] == (24, 16)\n"
        "large = save(Image.new('1', (10_000, 9_500)), 'TIFF', compression='group4')\n"
        "assert decode(large)[1] == (10_000, 9_500)\n"
    )
    assert printed_by(program) == ""
