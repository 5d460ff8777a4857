import random
import time

import numpy as np
import pytest
from PIL import AvifImagePlugin, ExifTags, Image

from tests.photos import encode, photograph, save
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
    # At 203 x 151 to 36, JPEG's scaled decode leaves half a pixel beyond the edges.
    image = photograph(203, 151)
    plain = decode(save(image, form, **exact), sizes=(36,), resize=resize)
    turned = decode(save(image, form, exif=exif, **exact), sizes=(36,), resize=resize)
    assert plain[1] == (203, 151)
    assert turned[1] == ((203, 151) if orientation < 5 else (151, 203))
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
    pixels, _ = decode(data)
    at = data.index(b"MPF\0") + 4
    chance = random.Random(5)
    for _ in range(200):
        bad = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            bad[at + chance.randrange(90)] = chance.choice([0, 1, 2, 7, 255])
        np.testing.assert_array_equal(decode(bytes(bad))[0], pixels)


def test_avif_takes_no_threads_but_ours():
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1


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
