"""Every format through a model and back, read by libraries that pipcli does not use for it.

The stand-in model halves the distance to white, so that what is written can be told in advance.
"""

import io
import itertools

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from pictures import P3
from PIL import Image as PillowImage
from PIL import ImageCms

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.images import FORMATS, Image, Metadata, decode_image, encode_image
from pipcli.images.colour import colours_of
from pipcli.images.formats import format_named, format_of_content, format_of_name
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer

EXACT = {
    "PNG": (8, 16),
    "TIFF": (8, 16, 32),
    "WebP": (8,),
    "BMP": (8,),
    "JPEG 2000": (8, 16),
    "JPEG XL": (8, 16, 32),
}
EXACT |= {"AVIF": (8,)}
TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}
KINDS = [(name, bits) for name, depths in EXACT.items() for bits in depths]


class Whiten(torch.nn.Module):
    stride, degradations, halo = 1, (Degradation.NOISE,), 4

    def forward(self, x: torch.Tensor, omega: torch.Tensor) -> torch.Tensor:
        return 0.5 * x + 0.5


def restored(data: bytes) -> bytes:
    image = decode_image(data, "x")
    restorer = Restorer(Whiten(), torch.device("cpu"), Precision.FP32, 112)
    return encode_image(restorer.restore(image, (1.0,)))


def planes(bits: int, channels: int) -> np.ndarray:
    y, x = np.mgrid[:120, :116]
    values = np.stack([(3 * y + (c + 1) * x) % 251 / 250 for c in range(channels)], axis=2)
    return values.astype(np.float32) if bits == 32 else np.rint(values * (2**bits - 1)).astype(TYPES[bits])


def independently(data: bytes, name: str) -> np.ndarray:
    """H×W×C by another library than the one under test, where there is one."""
    if name == "TIFF":
        found = tifffile.imread(io.BytesIO(data))
    elif name == "PNG" and data[24] == 16:  # Pillow cuts 16-bit colour to 8
        found = imagecodecs.png_decode(data)
    elif name == "JPEG XL":
        found = imagecodecs.jpegxl_decode(data)
    elif name == "JPEG 2000":
        found = imagecodecs.jpeg2k_decode(data)
    else:
        found = np.asarray(PillowImage.open(io.BytesIO(data)))
    return found[:, :, None] if found.ndim == 2 else found


@pytest.mark.parametrize(("name", "bits"), KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_grey_stay_and_pixels_are_those_of_the_model(name, bits, channels):
    source = planes(bits, channels)
    result = restored(encode_image(Image(source, metadata=Metadata(name)), name))
    found = independently(result, name)
    peak = 1 if bits == 32 else 2**bits - 1
    expected = 0.5 * source + 0.5 * peak
    assert found.dtype == TYPES[bits]
    step = 1e-6 if bits == 32 else 1.001 if name == "AVIF" else 0.501
    assert np.abs(found.astype(float) - expected).max() <= step
    if name not in ("WebP",):
        assert found.shape[2] == channels


@pytest.mark.parametrize("name", [format_.name for format_ in FORMATS])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_found_clean_are_written_in_any_format(name, channels):
    # As they were read, not as a model gave them: grey ones are views with strides of their own.
    source = planes(8, channels)
    image = decode_image(encode_image(Image(source, metadata=Metadata(name)), name), "x")
    for target in FORMATS:
        found = decode_image(encode_image(image, target.name), "x").pixels
        assert np.abs(found.astype(int) - image.pixels).mean() < 6, target.name


@pytest.mark.parametrize(("name", "bits"), KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_carried_through_and_hidden_colours_stay(name, bits, channels):
    source = planes(bits, channels + 1)
    colours, alpha = source[:, :, :channels], source[:, :, channels].copy()
    alpha[:40] = 0
    result = decode_image(restored(encode_image(Image(colours, alpha, Metadata(name)), name)), "x")
    np.testing.assert_array_equal(result.alpha, alpha)
    channels = min(channels, result.channels)
    np.testing.assert_array_equal(result.pixels[alpha == 0][:, :channels], colours[alpha == 0][:, :channels])
    assert (result.pixels[alpha > 0][:, 0] != colours[alpha > 0][:, 0]).mean() > 0.9


@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "WebP", "AVIF", "JPEG 2000"])
def test_wide_gamut_is_restored_as_srgb_and_written_in_its_own_space(name):
    source = np.rint(colours_of(P3, 3).from_srgb(0.2 + 0.6 * planes(32, 3)) * 255).astype(np.uint8)
    image = Image(source, metadata=Metadata(name, icc=P3))
    result = restored(encode_image(image, name))
    assert decode_image(result, "x").metadata.icc == P3
    given = decode_image(encode_image(image, name), "x").pixels

    def converted(pixels: np.ndarray, from_: bytes, to: bytes) -> np.ndarray:
        return imagecodecs.cms_transform(
            pixels.astype(np.float32), from_, to, colorspace="rgb", outcolorspace="rgb", outdtype="float32",
            intent=1,
        ).reshape(pixels.shape)  # fmt: skip

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    seen = converted(given / 255, P3, srgb)
    inside = ((seen > 0.02) & (seen < 0.98)).all(axis=2)
    expected = converted(0.5 * seen + 0.5, srgb, P3) * 255
    found = decode_image(result, "x").pixels
    difference = np.abs(found - expected)[inside]
    assert inside.mean() > 0.3
    assert difference.max() <= 0.7 if name in ("PNG", "TIFF", "WebP", "JPEG 2000") else difference.mean() < 2


def test_all_pages_of_a_tiff_are_restored():
    pages = [planes(8, 3), planes(16, 1)[:40], planes(32, 3)[:, :50]]
    images = [Image(page, metadata=Metadata("TIFF")) for page in pages]
    data = restored(encode_image(Image(pages[0], metadata=Metadata("TIFF"), further=tuple(images[1:]))))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for page, source in zip(file.pages, pages, strict=True):
            peak = 1 if source.dtype == np.float32 else np.iinfo(source.dtype).max
            expected = (0.5 * source + 0.5 * peak).reshape(page.asarray().shape)
            assert np.abs(page.asarray().astype(float) - expected).max() <= 0.501


def test_floats_of_any_range_take_the_change_on_their_scale():
    source = planes(32, 1) * 3000 - 1000
    data = restored(encode_image(Image(source, metadata=Metadata("TIFF"))))
    image = decode_image(encode_image(Image(source, metadata=Metadata("TIFF"))), "x")
    low, high = image.scale
    shown = np.clip(source, low, high)
    expected = source + (0.5 * (shown - low) / (high - low) + 0.5) * (high - low) + low - shown
    np.testing.assert_allclose(tifffile.imread(io.BytesIO(data)), expected[:, :, 0], atol=0.01)


def test_each_content_and_name_stands_for_one_format():
    for format_ in FORMATS:
        data = encode_image(Image(planes(8, 3)), format_.name)
        assert [other for other in FORMATS if other.recognise(data[:64])] == [format_]
        assert format_of_content(data) is format_
        for suffix in format_.suffixes:
            assert format_of_name(f"a{suffix.upper()}") is format_
            assert format_named(suffix[1:]) is format_
        assert format_named(format_.name.lower()) is format_
    suffixes = list(itertools.chain.from_iterable(format_.suffixes for format_ in FORMATS))
    assert len(suffixes) == len(set(suffixes))
    with pytest.raises(UsageError, match="unknown format 'gif': choose from PNG, "):
        format_named("gif")
