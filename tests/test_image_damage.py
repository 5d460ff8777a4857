"""Images that are not whole, or not images."""

import random

import pytest

from tests.photos import KINDS, encode, photograph
from tests.test_image import decode, fault
from transforms.image import DecodeError

# The module's own filters do not survive pytest's.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore:Metadata Warning"),
]


def test_no_bytes():
    assert fault(b"").error == "empty_image"


@pytest.mark.parametrize(
    "data",
    [b"\0", b"<!DOCTYPE html><html></html>", b"not an image at all", bytes(1000)],
)
def test_not_an_image(data):
    assert fault(data).error == "not_an_image"
    assert repr(data[:16]) in fault(data).message


@pytest.mark.parametrize(
    "head",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"8BPS\0\1" + bytes(30),
        b"SIMPLE  =                    T" + bytes(60),
        b"\x89HDF\r\n\x1a\n" + bytes(60),
        b"GRIB" + bytes(60),
        b"BUFR" + bytes(60),
        b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
        b"\0\0\1\0\1\0" + bytes(60),
        b"qoif" + bytes(60),
    ],
)
def test_formats_that_run_programs_or_nest_are_out_of_reach(head):
    assert fault(head).error == "not_an_image"


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"tiff_pages"}))
def test_half_an_image_is_an_error(kind):
    data = encode(photograph(160, 120), kind)
    assert fault(data[: len(data) // 2]).error in ("truncated_image", "corrupt_image")


@pytest.mark.parametrize("kind", ["jpeg", "jpeg_progressive", "jpeg_grey", "jpeg_cmyk"])
@pytest.mark.parametrize("long", [160, 640])
def test_a_jpeg_without_its_last_bytes_is_truncated(kind, long):
    """Also where the scaled decode would not look at each coefficient."""
    data = encode(photograph(long, long), kind)
    for cut in [*range(1, 20), 50, 500]:
        assert fault(data[:-cut]).error == "truncated_image"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("png", "truncated_image"),
        ("gif", "truncated_image"),
        ("bmp", "truncated_image"),
        ("tiff", "truncated_image"),
        ("avif", "truncated_image"),
        ("webp", "corrupt_image"),
        ("jpeg2000", "corrupt_image"),
    ],
)
def test_truncation_has_a_stable_name(kind, error):
    data = encode(photograph(160, 120), kind)
    assert fault(data[:-60]).error == error


def test_the_message_is_one_line_and_names_the_format():
    error = fault(encode(photograph(), "jpeg")[:-9])
    assert error.message.startswith("JPEG: image file is truncated")
    assert "\n" not in error.message
    assert str(error) == f"truncated_image: {error.message}"


def test_damaged_images_give_decode_errors_only():
    """Anything else that came out would fail this test. 600 mutations."""
    chance = random.Random(7)
    image = photograph(96, 72)
    whole = [encode(image, kind) for kind in KINDS]
    good = 0
    for _ in range(600):
        good += is_good(mutated(chance.choice(whole), whole, chance))
    assert 100 < good < 500


def is_good(data: bytes) -> bool:
    try:
        decode(data)
    except DecodeError as bad:
        assert bad.error in (
            "corrupt_image",
            "empty_image",
            "not_an_image",
            "too_large",
            "truncated_image",
            "unsupported_image",
        )
        assert bad.message.encode()
        return False
    return True


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Flips bits, cuts, deletes, inserts, sets sizes, or takes another's header."""
    at, size = chance.randrange(len(data) - 4), chance.randrange(1, 64)
    kind = chance.randrange(6)
    if kind == 0:
        flipped = bytearray(data)
        for _ in range(size):
            flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + size :]
    if kind == 3:
        return data[:at] + chance.randbytes(size) + data[at:]
    if kind == 4:
        absurd = chance.choice(
            [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\xff\x7f"]
        )
        at = chance.randrange(min(100, len(data) - 4))
        return data[:at] + absurd + data[at + 4 :]
    return chance.choice(others)[:size] + data[size:]
