"""`Image`: stored pixels to floats and back, and what is refused."""

import numpy as np
import pytest

from pipcli.errors import ImageError
from pipcli.images import Image, JpegCoding, Metadata


def every_value(dtype: type, channels: int) -> Image:
    """An image of 256×256 with each value of the type, shuffled apart in the channels."""
    values = np.arange(65536).astype(dtype) if dtype != np.float32 else np.linspace(0, 1, 65536, dtype=dtype)
    planes = [np.roll(values, 1000 * channel).reshape(256, 256) for channel in range(channels)]
    return Image(np.stack(planes, axis=2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_store_gives_back_what_crop_float_took(dtype, channels):
    image = every_value(dtype, channels)
    floats = image.crop_float(0, 256, 0, 256)
    assert floats.shape == (256, 256, 3)
    assert floats.dtype == np.float32
    assert floats.min() == 0
    assert floats.max() == 1
    stored = image.store(floats)
    assert stored.dtype == image.pixels.dtype
    if dtype == np.float32 and channels == 1:  # a mean of three equal floats may round
        np.testing.assert_allclose(stored, image.pixels, rtol=2e-7)
    else:
        np.testing.assert_array_equal(stored, image.pixels)


def test_crop_float_takes_the_rectangle_asked_for():
    image = every_value(np.uint8, 3)
    crop = image.crop_float(3, 7, 250, 256)
    np.testing.assert_allclose(crop, image.pixels[3:7, 250:256] / 255, atol=1e-7)
    crop[:] = 0
    assert image.pixels[3:7, 250:256].any()


@pytest.mark.parametrize("rectangle", [(-1, 4, 0, 4), (0, 257, 0, 4), (4, 4, 0, 4), (0, 4, 5, 2)])
def test_crop_float_refuses_what_is_not_within(rectangle):
    with pytest.raises(ValueError, match="do not lie within 256×256"):
        every_value(np.uint8, 1).crop_float(*rectangle)


def test_store_rounds_and_clips():
    image = Image(np.zeros((1, 4, 3), np.uint8))
    rgb = np.repeat(np.array([[-0.5, 0.6 / 255, 254.4 / 255, 1.5]])[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(image.store(rgb)[0, :, 0], [0, 1, 254, 255])


def test_store_makes_grey_from_the_mean_of_three():
    image = Image(np.zeros((1, 1, 1), np.uint16))
    assert image.store(np.array([[[0.0, 0.25, 0.5]]]))[0, 0, 0] == round(0.25 * 65535)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_store_refuses_what_is_not_finite(value):
    with pytest.raises(ImageError, match="not a finite number"):
        Image(np.zeros((1, 1, 3), np.uint8)).store(np.full((1, 1, 3), value))


def test_with_pixels_keeps_the_rest():
    alpha = np.full((2, 2), 7, np.uint8)
    image = Image(np.zeros((2, 2, 3), np.uint8), alpha)
    other = image.with_pixels(np.ones((2, 2, 3), np.uint8))
    assert other.alpha is alpha
    assert other.metadata is image.metadata
    assert other.pixels.all()
    with pytest.raises(ValueError, match="new pixels are uint16"):
        image.with_pixels(np.ones((2, 2, 3), np.uint16))
    with pytest.raises(ValueError, match="new pixels are uint8"):
        image.with_pixels(np.ones((2, 3, 3), np.uint8))


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((2, 2), np.uint8), None),
        (np.zeros((2, 2, 4), np.uint8), None),
        (np.zeros((0, 2, 3), np.uint8), None),
        (np.zeros((2, 2, 3), np.float64), None),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint16)),
    ],
)
def test_wrong_arrays_are_refused(pixels, alpha):
    with pytest.raises(ValueError, match=r"pixels|alpha"):
        Image(pixels, alpha)


@pytest.mark.parametrize("arguments", [((), "4:1:1"), (((1,) * 63,), "4:4:4"), (((0, *(1,) * 63),), "4:4:4")])
def test_wrong_jpeg_coding_is_refused(arguments):
    with pytest.raises(ValueError, match=r"subsampling|64 entries"):
        JpegCoding(*arguments)


@pytest.mark.parametrize("dpi", [(0, 72), (72, -1), (72, 65536), (float("nan"), 72)])
def test_nonsense_resolution_is_refused(dpi):
    with pytest.raises(ValueError, match="it must be above 0 and at most 65535 dpi"):
        Metadata(dpi=dpi)


def test_floats_outside_the_scale_keep_their_distance_and_take_the_change():
    pixels = np.array([-0.5, 0.0, 0.25, 1.0, 7.0], np.float32).reshape(1, 5, 1)
    image = Image(pixels)
    shown = image.crop_float(0, 1, 0, 5)
    np.testing.assert_array_equal(shown[0, :, 0], [0, 0, 0.25, 1, 1])
    np.testing.assert_array_equal(image.store(shown), pixels)
    halved = image.store(shown * 0.5)
    np.testing.assert_allclose(halved[0, :, 0], [-0.5, 0, 0.125, 0.5, 6.5])


def test_floats_are_shown_on_their_scale():
    pixels = np.linspace(-1000, 3000, 30, dtype=np.float32).reshape(2, 5, 3)
    image = Image(pixels, scale=(-1000, 3000))
    shown = image.crop_float(0, 2, 0, 5)
    np.testing.assert_allclose(shown, (pixels + 1000) / 4000, atol=1e-6)
    np.testing.assert_array_equal(image.store(shown), pixels)
    np.testing.assert_allclose(image.store(np.zeros_like(shown)), -1000)


def test_scales_and_pages_are_checked():
    whole, floats = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.float32)
    with pytest.raises(ValueError, match="must rise"):
        Image(whole, scale=(0, 255))
    with pytest.raises(ValueError, match="must rise"):
        Image(floats, scale=(1, 1))
    with pytest.raises(ValueError, match="further pages"):
        Image(whole, further=(Image(whole, further=(Image(whole),)),))
