import random
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.photos import KINDS, encode, photograph, png, save
from transforms.image import DecodeError, Preprocess, decode_image

# The module's own filters do not survive pytest's.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore:Metadata Warning"),
]

ORIENTATION = ExifTags.Base.Orientation


def decode(data: bytes, **how: object) -> tuple[np.ndarray, tuple[int, int]]:
    preprocess = Preprocess(**{"sizes": (64,), **how})
    out = [np.full((side, side, 3), 77, np.uint8) for side in preprocess.sizes]
    size = decode_image(data, preprocess=preprocess, out=out)
    return out[0], size


def fault(data: bytes, **how: object) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(data, **how)
    return caught.value


@pytest.mark.parametrize("resize", ["antialias", "bilinear"])
def test_all_sizes_come_from_one_decode_of_the_largest(resize):
    data = save(photograph(3000, 2000), "JPEG")
    small, large = np.empty((32, 32, 3), np.uint8), np.empty((480, 480, 3), np.uint8)
    preprocess = Preprocess(sizes=(32, 480), resize=resize)
    assert decode_image(data, preprocess=preprocess, out=[small, large]) == (3000, 2000)
    np.testing.assert_array_equal(large, decode(data, sizes=(480,), resize=resize)[0])
    # Decoded for 480, so not to the same bytes as for 32 alone.
    alone = decode(data, sizes=(32,), resize=resize)[0].astype(float)
    assert np.abs(small - alone).mean() < 0.75


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["antialias", "bilinear"])
def test_orientation_is_applied(form, orientation, resize):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exact = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
    # At 203 x 150 to 36, JPEG's scaled decode leaves half a column beyond the edge.
    image = photograph(203, 150)
    plain = decode(save(image, form, **exact), sizes=(36,), resize=resize)
    turned = decode(save(image, form, exif=exif, **exact), sizes=(36,), resize=resize)
    assert plain[1] == (203, 150)
    assert turned[1] == ((203, 150) if orientation < 5 else (150, 203))
    # Pillow resizes across before down, and rounds between.
    expected = upright(plain[0], orientation).astype(float)
    assert np.abs(turned[0] - expected).max() <= 1.01


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """By EXIF's own words: where row 0 and column 0 of what is stored belong."""
    rows_then_columns = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }
    row, column = rows_then_columns[orientation]
    shown = stored if row in ("top", "bottom") else stored.swapaxes(0, 1)
    shown = shown[::-1] if "bottom" in (row, column) else shown
    return shown[:, ::-1] if "right" in (row, column) else shown


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_does_not_lose_the_image(form):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[ExifTags.Base.Make] = "maker"
    exif[ExifTags.Base.XResolution] = 72.0
    whole = exif.tobytes()[6:]
    image = photograph(24, 16)
    chance = random.Random(3)
    for _ in range(300):
        bad = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            bad[chance.randrange(len(bad))] = chance.choice([0, 1, 3, 5, 255])
        bad = bad[: chance.choice([len(bad), chance.randrange(len(bad))])]
        pixels, size = decode(save(image, form, exif=b"Exif\0\0" + bytes(bad)))
        assert size in [(24, 16), (16, 24)]
        assert pixels.std() > 10


def test_malformed_exif_does_not_lose_an_avif():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[ExifTags.Base.Make] = "maker"
    data = save(photograph(24, 16), "AVIF", exif=exif)
    assert decode(data)[1] == (16, 24)
    at = data.rindex(b"MM\0*")
    assert decode(data[:at] + b"\xff" * 4 + data[at + 4 :])[1] == (16, 24)


def test_a_damaged_index_does_not_lose_an_mpo():
    data = encode(photograph(), "mpo")
    at = data.index(b"MPF\0") + 12
    assert data[at : at + 2] != b"\xff\xff"
    np.testing.assert_array_equal(
        decode(data)[0], decode(data[:at] + b"\xff" * 40 + data[at + 40 :])[0]
    )


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    assert decode(save(photograph(24, 16), "JPEG", exif=exif))[1] == (24, 16)


@pytest.mark.parametrize("resize", ["antialias", "bilinear"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 100_000), (65_535, 1), (65_500, 9)]
)
def test_extreme_shapes_are_decoded(width, height, fit, resize):
    data = save(Image.new("RGB", (width, height), (200, 100, 50)), "PNG")
    began = time.perf_counter()
    pixels, size = decode(data, fit=fit, resize=resize)
    assert time.perf_counter() - began < 2
    assert size == (width, height)
    assert set(map(tuple, pixels.reshape(-1, 3).tolist())) <= {
        (200, 100, 50),
        (0, 0, 0),
    }
    assert (pixels == [200, 100, 50]).all(axis=-1).any()


def test_the_widest_jpeg_is_decoded():
    assert decode(save(Image.new("L", (65_500, 16), 99), "JPEG"))[1] == (65_500, 16)


# ---- errors


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


# ---- limits


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
        "from tests.test_image import fault, huge, peak_kib\n"
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


def test_the_limit_is_exact_and_holds_above_pillows():
    image = save(Image.new("1", (20_000, 10_000)), "PNG")
    assert fault(image, max_pixels=199_999_999).error == "too_large"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(image, max_pixels=200_000_000)[1] == (20_000, 10_000)


def test_a_long_thin_image_within_the_limit_is_not_widened_whole():
    """1 x 10,000,000 grey pixels are 10 MB, and at 224 columns 2.2 GB."""
    program = (
        "from tests.test_image import decode, peak_kib, thin\n"
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


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sizes": ()}, "sizes must be one or more"),
        ({"sizes": (224, 224)}, "sizes must be one or more, all different"),
        ({"sizes": (0,)}, "at least 1: 0"),
        ({"resize": "cubic"}, "resize must be one of .*'cubic'"),
        ({"fit": "fill"}, "fit must be one of .*'fill'"),
        ({"max_pixels": 0}, "max_pixels must be at least 1: 0"),
    ],
)
def test_impossible_options_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**how)


@pytest.mark.parametrize("shapes", [[], [(8, 8, 3)], [(8, 8, 3), (9, 8, 3)]])
def test_out_that_does_not_fit_is_the_callers_fault_not_the_images(shapes):
    out = [np.empty(shape, np.uint8) for shape in shapes]
    data = encode(photograph(), "png")
    with pytest.raises(ValueError, match=r"out must be .* each of \(8, 9\)"):
        decode_image(data, preprocess=Preprocess(sizes=(8, 9)), out=out)


def test_what_follows_the_image_does_not_matter():
    data = encode(photograph(), "png")
    np.testing.assert_array_equal(decode(data)[0], decode(data + b"more")[0])
