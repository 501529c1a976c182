"""GeoTIFFs with a value that means "no data": it is no picture, comes out as it was, and stays apart."""

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage

from pipcli.degradations import Degradation
from pipcli.errors import ImageError
from pipcli.images import Image, Wishes, decode_image, encode_image
from pipcli.images.floats import floats_note, scale_of
from pipcli.images.image import Metadata, TiffCoding
from pipcli.images.nodata import kept_off, nodata_in
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.inference.passes import restore_in_passes

LOWEST = float(np.finfo(np.float32).min)


class Blur(torch.nn.Module):
    """A stand-in model whose every pixel is a mean over 9×9, so that a strange value shows all around it."""

    stride, degradations, halo = 1, (Degradation.NOISE,), 4

    def forward(self, x: torch.Tensor, omega: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, 9, stride=1)


def restorer() -> Restorer:
    return Restorer(Blur(), torch.device("cpu"), Precision.FP32)


def tagged(text: str | bytes) -> dict[str, object]:
    return {"extratags": [(42113, 2, 0, text, True)]}


def written(array: np.ndarray, text: str | bytes, **options: object) -> bytes:
    out = io.BytesIO()
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    options = {"photometric": photometric, "metadata": None} | options
    tifffile.imwrite(out, array, **tagged(text), **options)
    return out.getvalue()


def field(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Terrain between 400 and 600, or between 40 and 60 in 8 bits, and where it was not measured."""
    y, x = np.mgrid[:60, :70]
    heights = (500 + 100 * np.sin(y / 7) * np.cos(x / 9)) / (10 if dtype == "uint8" else 1)
    return heights.astype(dtype), (y < 15) | ((y - 40) ** 2 + (x - 50) ** 2 < 80)


def tag_of(data: bytes, page: int = 0) -> str | None:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        value: str | None = file.pages[page].tags.valueof(42113)
    return value


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("float32", "-9999"),
        ("float32", "-3.4028234663852886e+38"),
        ("float32", "nan"),
        ("float32", "inf"),
        ("float32", "-9999.9"),
        ("float32", b"-9999 \0\0"),
        ("float64", "-1.7976931348623157e+308"),
        ("float64", "-9999.9"),
        ("float64", "nan"),
        ("float16", "-9999"),
        ("uint8", "0"),
        ("uint8", "255"),
        ("uint16", "0"),
        ("uint16", "65535"),
        ("uint16", "500"),
    ],
)
@pytest.mark.parametrize("passes", [1, 2])
def test_no_data_come_out_as_they_were_and_leave_no_trace(dtype, text, passes):
    heights, without = field(dtype)
    number = float(text.strip(b"\0 ") if isinstance(text, bytes) else text)
    stored = heights.copy()
    stored[stored == number] += 1
    stored[without] = np.array(number).astype(dtype)
    image = decode_image(written(stored, text), "x.tif")
    assert np.isfinite(image.pixels).all()
    if image.pixels.dtype == np.float32:  # as that of the measured numbers alone
        alone = scale_of(heights[~without].astype(np.float32).reshape(-1, 1, 1))
        assert image.scale == pytest.approx(alone, rel=1e-3)
        assert all("numbers from 4" in note or "64-bit" in note for note in image.metadata.notes)

    data = encode_image(restore_in_passes(restorer(), image, [(1.0,)] * passes))
    after = tifffile.imread(io.BytesIO(data))
    assert after.dtype == dtype
    np.testing.assert_array_equal(after[without], stored[without])
    np.testing.assert_array_equal(float(tag_of(data)), np.array(number).astype(dtype))
    measured = after[~without].astype(float)
    assert measured.min() > 0.8 * heights.min()
    assert measured.max() < heights.max() * 1.01
    assert np.abs(measured - stored[~without]).max() > 1
    np.testing.assert_array_equal(decode_image(data, "x.tif").without_data[:, :, 0], without)


def test_every_page_has_its_own_value_and_all_one_scale():
    heights, without = field("float32")
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        for text in ("-9999", "1e20"):
            page = np.where(without, np.float32(text), heights)
            file.write(page, photometric="minisblack", metadata=None, **tagged(text))
        file.write(np.full_like(heights, -1), photometric="minisblack", metadata=None, **tagged("-1"))
    image = decode_image(out.getvalue(), "x.tif")
    assert {page.scale for page in (image, *image.further)} == {image.scale}
    assert 500 < image.scale[1] < 600
    assert not image.further[1].filled().pixels.any()
    data = encode_image(restorer().restore(image, (1.0,)))
    for index, number in enumerate([-9999, 1e20]):
        page = tifffile.imread(io.BytesIO(data), key=index)
        assert np.float32(tag_of(data, index)) == np.float32(number)
        np.testing.assert_array_equal(page == np.float32(number), without)
    assert (tifffile.imread(io.BytesIO(data), key=2) == -1).all()


def test_channels_count_each_by_itself():
    rng = np.random.default_rng(3)
    planes = rng.integers(100, 140, (40, 50, 3), dtype=np.uint8)
    planes[:10] = 0
    planes[20, 20] = (0, 120, 130)
    image = decode_image(written(planes, "0"), "x.tif")
    after = restorer().restore(image, (1.0,)).pixels
    np.testing.assert_array_equal(after == 0, planes == 0)
    assert after[after > 0].min() > 100
    assert np.abs(after[20, 20, 1:].astype(int) - planes[20, 20, 1:]).min() > 0


def test_no_data_beside_transparency():
    heights, without = field("uint8")
    planes = np.stack([np.where(without, 0, heights)] * 3 + [np.full_like(heights, 255)], axis=2)
    planes[50:, :20] = (250, 7, 250, 0)
    image = decode_image(written(planes, "0", extrasamples=["unassalpha"]), "x.tif")
    after = tifffile.imread(io.BytesIO(encode_image(restorer().restore(image, (1.0,)))))
    np.testing.assert_array_equal(after[without], planes[without])
    np.testing.assert_array_equal(after[50:, :20], planes[50:, :20])
    seen = ~without & (planes[:, :, 3] > 0)
    assert after[seen][:, :3].min() >= 39
    assert after[seen][:, :3].max() <= 60


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_computed_pixels_stop_short_of_the_value(dtype):
    value = np.dtype(dtype).type(100)
    coding = TiffCoding(nodata=value if dtype != "float32" else np.float64(100))
    before = np.array([[[90], [110], [100], [40]]], dtype)
    image = Image(before, metadata=Metadata("TIFF", tiff=coding))
    after = image.with_pixels(np.array([[[100], [100], [100], [41]]], dtype)).pixels.ravel()
    beside = (99, 101) if dtype != "float32" else (np.nextafter(value, -np.inf), np.nextafter(value, np.inf))
    np.testing.assert_array_equal(after, [*beside, 100, 41])


def test_rounding_to_16_bits_does_not_make_no_data():
    heights, without = field("float16")
    stored = np.where(without, np.float16(512), np.where(heights == 512, np.float16(513), heights))
    image = decode_image(written(stored.astype(np.float16), "512"), "x.tif")
    near = image.with_pixels(np.where(without[:, :, None], 512, np.float32(511.99)).astype(np.float32))
    after = tifffile.imread(io.BytesIO(encode_image(near)))
    np.testing.assert_array_equal(after == 512, without)


@pytest.mark.parametrize("bits", [4, 12])
def test_few_bits_are_stretched_together_with_the_value(bits):
    peak = 2**bits - 1
    values = (np.arange(48).reshape(6, 8) * 5 % peak).astype(np.uint16 if bits > 8 else np.uint8)
    values[0] = peak
    image = decode_image(written(values, str(peak), bitspersample=bits), "x.tif")
    highest = np.iinfo(image.pixels.dtype).max
    np.testing.assert_array_equal(image.without_data[:, :, 0], values == peak)
    data = encode_image(image)
    assert tag_of(data) == str(highest)
    beyond = decode_image(written(values, "255" if bits == 4 else "65535", bitspersample=bits), "x.tif")
    assert beyond.without_data is None
    assert beyond.metadata.notes[-1] == "tags left out, unknown or no longer right: 42113"
    assert tag_of(encode_image(beyond)) is None  # it would now mean white


@pytest.mark.parametrize(("dtype", "text"), [("uint8", "0"), ("float32", "-9999"), ("float32", "nan")])
def test_white_is_zero_turns_the_value_round(dtype, text):
    heights, without = field(dtype)
    stored = np.where(without, np.dtype(dtype).type(text), heights)
    image = decode_image(written(stored, text, photometric="miniswhite"), "x.tif")
    np.testing.assert_array_equal(image.without_data[:, :, 0], without)
    data = encode_image(image)
    assert tag_of(data) == {"0": "255", "-9999": "10000", "nan": "nan"}[text]
    np.testing.assert_array_equal(decode_image(data, "x.tif").without_data[:, :, 0], without)


@pytest.mark.parametrize("text", ["", "none", "0 0", b"\xff\xfe", "-9999", "0.5", "256", "nan"])
def test_what_is_no_value_of_the_pixels_is_ignored_and_kept(text):
    heights, _ = field("uint8")
    image = decode_image(written(heights, text), "x.tif")
    assert image.metadata.tiff.nodata is None
    assert image.filled() is image
    assert tag_of(encode_image(image)) == tag_of(written(heights, text))


def test_numbers_that_are_none_need_the_tag():
    heights, without = field("float32")
    stored = np.where(without, np.nan, heights).astype(np.float32)
    for text in ("-9999", "x", "1e300"):
        with pytest.raises(ImageError, match="no finite numbers"):
            decode_image(written(stored, text), "x.tif")
    with pytest.raises(ImageError, match="no finite numbers"):  # which 32 bits would round to this
        decode_image(written(np.where(without, np.float32(np.inf), heights), "1e300"), "x.tif")
    planes = np.stack([heights] * 3 + [stored], axis=2)
    with pytest.raises(ImageError, match="no finite numbers"):
        decode_image(written(planes, "nan", extrasamples=["unassalpha"]), "x.tif")


def test_palettes_lose_the_value_and_say_so():
    picture = PillowImage.fromarray(field("uint8")[0]).convert("P")
    out = io.BytesIO()
    picture.save(out, "TIFF", tiffinfo={42113: "0"})
    image = decode_image(out.getvalue(), "x.tif")
    assert image.without_data is None
    assert image.metadata.notes[-1] == "tags left out, unknown or no longer right: 42113"
    assert tag_of(encode_image(image)) is None


@pytest.mark.parametrize(
    ("bits", "dtype", "text"), [(16, "uint16", "65535"), (32, "float32", "1"), (8, "uint8", "255")]
)
def test_other_bits_take_the_value_along(bits, dtype, text):
    heights, without = field("uint8")
    image = decode_image(written(np.where(without, np.uint8(255), heights), "255"), "x.tif")
    data = encode_image(image, wishes=Wishes(bits=bits))
    assert tifffile.imread(io.BytesIO(data)).dtype == dtype
    assert tag_of(data) == text
    np.testing.assert_array_equal(decode_image(data, "x.tif").without_data[:, :, 0], without)


def test_fewer_bits_cannot_tell_the_value_from_others():
    assert nodata_in(np.uint16(0), np.dtype("uint8")) is None
    assert nodata_in(np.float64(-9999), np.dtype("uint16")) is None
    heights, without = field("float32")
    image = decode_image(written(np.where(without, np.float32(-9999), heights), "-9999"), "x.tif")
    assert tag_of(encode_image(image, wishes=Wishes(bits=16))) is None


def test_values_beyond_the_type_are_held_at_its_ends():
    single = np.dtype("float32")
    held = [nodata_in(np.float64(number), single) for number in (np.nan, -np.inf, 1e300, -9999)]
    np.testing.assert_array_equal(held, np.array([LOWEST, LOWEST, -LOWEST, -9999], np.float32))
    assert nodata_in(np.uint8(17), np.dtype("uint16")) == 17 * 257
    assert nodata_in(np.uint16(1), single) == np.float32(1) / np.float32(65535)


def test_the_scale_does_without_what_is_no_data():
    pixels = np.full((3000, 2000, 1), -9999, np.float32)
    assert scale_of(pixels, np.ones(pixels.shape, bool)) == (0, 1)
    pixels[1, 1:40] = np.linspace(0, 300, 39)[:, None]  # between the points of the grid
    assert scale_of(pixels, pixels == -9999) == pytest.approx((0, 300), rel=0.01)
    assert floats_note([pixels[:0]], (0, 1)) is None


def test_nothing_is_copied_where_nothing_falls():
    pixels = np.arange(6, dtype=np.uint8)
    assert kept_off(pixels, np.uint8(9), pixels) is pixels


def test_what_no_coding_holds_is_refused():
    with pytest.raises(ValueError, match="nodata is float32"):
        TiffCoding(nodata=np.float32(3))
    with pytest.raises(ValueError, match="by unit 6"):
        TiffCoding(resolution=((1, 1), (1, 1)), resolution_unit=6)


@pytest.mark.parametrize(("nodata", "near"), [(0, [1, 1, 1]), (4095, [4094, 4094, 4094])])
def test_no_value_of_fewer_bits_in_use_becomes_that_of_no_data(nodata, near):
    samples = np.full((6, 8), 100, np.uint16)
    samples[0] = nodata
    out = io.BytesIO()
    tags = [*tagged(str(nodata))["extratags"], (281, 3, 1, 4095, True)]
    tifffile.imwrite(out, samples, photometric="minisblack", metadata=None, extratags=tags)
    image = decode_image(out.getvalue(), "x.tif")
    computed = image.pixels.copy()
    computed[1, :3, 0] = (3, 5, 7) if nodata == 0 else (65534, 65530, 65528)  # 16 of these are one of 12 bits
    data = encode_image(image.with_pixels(computed))
    written_samples = tifffile.imread(io.BytesIO(data))
    assert written_samples[1, :3].tolist() == near
    np.testing.assert_array_equal(written_samples == nodata, samples == nodata)
    assert tag_of(data) == str(nodata)


def test_a_value_of_no_data_above_max_sample_value_leaves_all_as_it_is():
    samples = np.full((6, 8), 4000, np.uint16)
    out = io.BytesIO()
    tags = [*tagged("65535")["extratags"], (281, 3, 1, 4095, True)]
    tifffile.imwrite(out, samples, photometric="minisblack", metadata=None, extratags=tags)
    assert decode_image(out.getvalue(), "x.tif").pixels.max() == 4000
