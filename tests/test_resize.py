import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.photos import photograph, photographs, save
from transforms.image import Preprocess, decode_image
from transforms.resize import bilinear, draft_scale, place

SIZES = [
    (500, 375),
    (375, 500),
    (451, 300),
    (225, 223),
    (224, 224),
    (97, 31),
    (2, 3),
    (1, 1),
    (1, 700),
    (700, 1),
    (3000, 2),
]


def square(image: Image.Image, side: int, **how: object) -> np.ndarray:
    """Through the whole of decode_image, as PNG: `[side, side, 3]` float64."""
    out = np.full((side, side, 3), 77, np.uint8)
    preprocess = Preprocess(sizes=(side,), **how)
    decode_image(save(image, "PNG"), preprocess=preprocess, out=[out])
    return out.astype(np.float64)


def tensorflow(image: Image.Image, height: int, width: int) -> np.ndarray:
    resized = tf.image.resize(
        np.asarray(image), (height, width), method="bilinear", antialias=False
    )
    return resized.numpy().astype(np.float64)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("side", [224, 33])
def test_bilinear_is_tensorflows_within_half_a_level(width, height, side):
    image = photograph(width, height)
    ours = square(image, side, resize="bilinear")
    difference = np.abs(ours - tensorflow(image, side, side))
    # Half a level is the rounding. TensorFlow's float32 positions are the rest.
    assert difference.mean() < 0.3
    assert difference.max() <= 0.6


@pytest.mark.parametrize("name", ["astronaut", "flower", "retina"])
def test_bilinear_is_tensorflows_on_whole_photographs(name):
    image = photographs()[name]
    difference = square(image, 224, resize="bilinear") - tensorflow(image, 224, 224)
    assert np.abs(difference).max() <= 0.6


def test_bilinear_keeps_grey_images_grey():
    grey = photograph(101, 57).convert("L")
    ours = square(grey, 224, resize="bilinear")
    expected = tensorflow(Image.merge("RGB", [grey] * 3), 224, 224)
    assert np.abs(ours - expected).max() <= 0.6


# Of 1 x 1 TensorFlow's float32 makes 223 of 224.
@pytest.mark.parametrize(("width", "height"), [s for s in SIZES if s != (1, 1)])
def test_pad_is_tensorflows_resize_with_pad(width, height):
    image = photograph(width, height)
    ours = square(image, 224, resize="bilinear", fit="pad")
    if min(width, height) * 224 < max(width, height):
        # TensorFlow refuses a picture that would have no row; here it keeps one.
        assert np.count_nonzero(ours.any(axis=(1, 2))) in (1, 224)
        return
    expected = tf.image.resize_with_pad(
        np.asarray(image), 224, 224, method="bilinear", antialias=False
    )
    assert np.abs(ours - expected.numpy()).max() <= 0.6


def test_pad_fills_the_longer_side_at_every_width():
    # TensorFlow's float32 makes 223 of 224 for some of these.
    for width in range(1, 3000):
        assert place(width, width, side=224, fit="pad").size == (224, 224)
        assert place(width, 1, side=224, fit="pad").size[0] == 224


def test_crop_by_bilinear_takes_the_centre():
    image = photograph(480, 360)
    ours = square(image, 90, resize="bilinear", fit="crop")
    # 480 x 360 to 120 x 90, of which columns 15 to 105.
    expected = tensorflow(image, 90, 120)[:, 15:105]
    assert np.abs(ours - expected).max() <= 0.6


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_antialias_is_pillows_bilinear(fit):
    image = photograph(800, 600)
    ours = square(image, 224, fit=fit)
    size = (224, 224) if fit == "stretch" else (224, 168)
    expected = np.zeros((224, 224, 3))
    top = (224 - size[1]) // 2
    expected[top : top + size[1]] = np.asarray(
        image.resize(size, Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (333, 380), (40, 90)])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_antialias_is_the_triangle_filter(width, height, fit):
    """Against the filter's definition in float64, not against Pillow."""
    image = photograph(width, height)
    short = min(width, height)
    across, down = (width, height) if fit == "stretch" else (short, short)
    pixels = np.asarray(image).astype(float).transpose(2, 0, 1)
    expected = _triangle(height, down) @ pixels @ _triangle(width, across).T
    difference = np.abs(square(image, 64, fit=fit) - expected.transpose(1, 2, 0))
    # Pillow rounds to 8 bits after each direction.
    assert difference.max() <= 1.01


def _triangle(length: int, part: int, count: int = 64) -> np.ndarray:
    """`[count, length]`: what each of `count` results takes of a line's pixels, if
    they show the `part` in its middle."""
    scale = part / count
    centre = (length - part) / 2 + (np.arange(count)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centre)
    weights = np.clip(1 - distance / max(scale, 1), 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("long", [1000, 2503, 4001])
@pytest.mark.parametrize("name", sorted(photographs()))
def test_scaled_jpeg_decoding_stays_within_its_bound(name, long):
    photo = photographs()[name]
    scale = long / max(photo.size)
    image = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    data = save(image, "JPEG", quality=90)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    for fit in ("stretch", "crop", "pad"):
        out = np.empty((224, 224, 3), np.uint8)
        decode_image(data, preprocess=Preprocess(fit=fit), out=[out])
        assert_within_bound(out, _exactly(full, fit))


def assert_within_bound(pixels: np.ndarray, exact: np.ndarray) -> None:
    """The bound that docs/images.md states, in grey levels."""
    difference = np.abs(pixels.astype(float) - exact)
    assert difference.mean() <= 0.75
    assert np.percentile(difference, 99.9) <= 5
    assert difference.max() <= 16


def _exactly(image: Image.Image, fit: str) -> np.ndarray:
    """All pixels through one filter, nothing scaled before."""
    spot = place(image.width, image.height, side=224, fit=fit)
    canvas = Image.new("RGB", (224, 224))
    canvas.paste(image.resize(spot.size, 2, box=spot.box), spot.offset)
    return np.asarray(canvas).astype(float)


@pytest.mark.parametrize("name", ["grass", "motorcycle_left", "retina"])
def test_large_images_of_other_formats_stay_within_the_same_bound(name):
    image = photographs()[name].resize((2100, 1803))
    assert_within_bound(square(image, 224), _exactly(image, "stretch"))


@pytest.mark.parametrize(
    ("width", "height", "sides", "fit", "scale"),
    [
        (500, 375, (224,), "stretch", 1),
        (896, 896, (224,), "stretch", 2),
        (895, 896, (224,), "stretch", 1),
        (4000, 3000, (224,), "stretch", 4),
        (8000, 6000, (224,), "stretch", 8),
        (8000, 6000, (224, 480), "stretch", 4),
        (4000, 1000, (224,), "crop", 2),
        (4000, 1000, (224,), "pad", 8),
        (65535, 1, (224,), "pad", 1),
        (1, 1, (224,), "stretch", 1),
    ],
)
def test_draft_leaves_twice_the_target_both_ways(width, height, sides, fit, scale):
    given = {"sides": sides, "fit": fit}
    assert draft_scale(width, height, resize="antialias", **given) == scale
    assert draft_scale(width, height, resize="bilinear", **given) == 1


def test_bilinear_returns_a_value_for_each_pixel_of_the_placement():
    image = photograph(50, 40)
    assert bilinear(image, place(50, 40, side=20, fit="pad")).shape == (16, 20, 3)
