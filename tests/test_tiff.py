"""TIFF: kinds and compressions against tifffile and Pillow, metadata, damage, and what is refused."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from PIL import ImageOps

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image

RNG = np.random.default_rng(7)


def smooth(dtype: str, channels: int) -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    planes = np.stack([(y + (c + 1) * x) % 251 / 250 for c in range(channels)], axis=2)
    peak = 1 if dtype == "float32" else np.iinfo(dtype).max
    return (planes * peak).astype(dtype)


def written(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()


def patched(data: bytes, code: int, value: int) -> bytes:
    """The little-endian file with the value of a tag of its first page replaced."""
    folder = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, folder)[0]):
        at = folder + 2 + 12 * index
        if struct.unpack_from("<H", data, at)[0] == code:
            return data[: at + 8] + struct.pack("<I", value) + data[at + 12 :]
    raise KeyError(code)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_writing_and_reading_gives_the_same_pixels(dtype, channels, alpha):
    planes = smooth(dtype, channels + alpha)
    image = Image(planes[:, :, :channels], planes[:, :, channels] if alpha else None)
    data = encode_image(image, "TIFF")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray().reshape(planes.shape), planes)
    again = decode_image(data, "x.tif")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.pixels.dtype == dtype
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "jpeg"])
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}], ids=str)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_compressions_and_layouts(compression, layout, bigtiff):
    if compression == "jpeg" and "rowsperstrip" in layout:
        layout = {"rowsperstrip": 8}
    planes = smooth("uint8", 3)
    data = written(planes, photometric="rgb", compression=compression, bigtiff=bigtiff, **layout)
    expected = planes if compression != "jpeg" else tifffile.imread(io.BytesIO(data))
    np.testing.assert_array_equal(decode_image(data, "x.tif").pixels, expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bits_in_separate_planes_of_either_byte_order(byteorder):
    planes = smooth("uint16", 3)
    data = written(np.moveaxis(planes, 2, 0), photometric="rgb", planarconfig="separate", byteorder=byteorder)
    image = decode_image(data, "x.tif")
    np.testing.assert_array_equal(image.pixels, planes)
    assert image.pixels.dtype == np.uint16
    assert image.pixels.dtype.isnative


def test_white_is_zero_is_turned_round():
    planes = smooth("uint8", 1)
    image = decode_image(written(planes[:, :, 0], photometric="miniswhite"), "x.tif")
    np.testing.assert_array_equal(image.pixels, 255 - planes)


@pytest.mark.parametrize(("bits", "expected"), [(2, np.uint8), (4, np.uint8), (12, np.uint16)])
def test_few_bits_are_stretched_and_said_so(bits, expected):
    values = (np.arange(48).reshape(6, 8) * 85) % 2**bits
    data = written(values.astype(expected), photometric="minisblack", bitspersample=bits)
    image = decode_image(data, "x.tif")
    peak = np.iinfo(expected).max
    np.testing.assert_array_equal(image.pixels[:, :, 0], np.rint(values * peak / (2**bits - 1)))
    assert image.metadata.notes == (f"{bits} bits a channel read as {8 * np.dtype(expected).itemsize}",)


@pytest.mark.parametrize("mode", ["1", "P"])
def test_bilevel_and_palette_are_as_pillow_shows_them(mode):
    picture = PillowImage.fromarray(smooth("uint8", 3))
    picture = picture.quantize(32) if mode == "P" else picture.convert("1")
    out = io.BytesIO()
    picture.save(out, "TIFF")
    image = decode_image(out.getvalue(), "x.tif")
    expected = np.asarray(picture.convert("RGB" if mode == "P" else "L"))
    np.testing.assert_array_equal(image.pixels, expected.reshape(image.pixels.shape))
    assert image.metadata.notes == (("palette image read as RGB",) if mode == "P" else ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    picture = PillowImage.fromarray(smooth("uint8", 3))
    out = io.BytesIO()
    picture.save(
        out, "TIFF", tiffinfo={274: orientation}, resolution_unit=2, x_resolution=300, y_resolution=150
    )
    image = decode_image(out.getvalue(), "x.tif")
    expected = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(out.getvalue())))
    np.testing.assert_array_equal(image.pixels, np.asarray(expected))
    assert image.metadata.dpi == ((300, 150) if orientation < 5 else (150, 300))
    with PillowImage.open(io.BytesIO(encode_image(image))) as again:
        assert again.getexif().get(0x0112, 1) == 1
        np.testing.assert_array_equal(np.asarray(again), np.asarray(expected))


def test_metadata_survives():
    tags = [
        (270, 2, 0, "a scene", True),
        (271, 2, 0, "a maker", True),
        (33723, 7, 5, b"\x1c\x02\x05\0\0", True),
        (700, 1, 4, b"<x/>", True),
    ]
    data = written(
        smooth("uint8", 3), photometric="rgb", extratags=tags, iccprofile=b"a profile", software="a program",
        resolution=(100, 50), resolutionunit="centimeter",
    )  # fmt: skip
    image = decode_image(data, "x.tif")
    assert image.metadata.icc == b"a profile"
    assert image.metadata.xmp == b"<x/>"
    assert image.metadata.dpi == pytest.approx((254, 127))
    output = encode_image(image)
    with tifffile.TiffFile(io.BytesIO(output)) as file:
        found = file.pages[0].tags
        assert (found[270].value, found[271].value, found[305].value) == ("a scene", "a maker", "a program")
        assert found[33723].value == b"\x1c\x02\x05\0\0"
        assert found[34675].value == b"a profile"
    again = decode_image(output, "x.tif").metadata
    assert again.dpi == pytest.approx((254, 127))
    assert (again.icc, again.xmp, again.blocks) == (
        image.metadata.icc,
        image.metadata.xmp,
        image.metadata.blocks,
    )


def test_several_pages_are_refused_and_previews_left_out():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(smooth("uint8", 3), photometric="rgb", metadata=None)
        file.write(smooth("uint8", 3)[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    image = decode_image(out.getvalue(), "x.tif")
    np.testing.assert_array_equal(image.pixels, smooth("uint8", 3))
    assert image.metadata.notes == ("previews in the file are left out",)
    pages = np.stack([smooth("uint8", 3)] * 3)
    with pytest.raises(ImageError, match=r"^x\.tif: is a TIFF of 3 pages, only one is supported$"):
        decode_image(written(pages, photometric="rgb"), "x.tif")
    with pytest.raises(ImageError, match="only previews"):
        decode_image(written(smooth("uint8", 3), photometric="rgb", subfiletype=1), "x.tif")


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (smooth("uint8", 4), {"photometric": "separated"}, "colour kind SEPARATED"),
        (smooth("uint8", 3), {"photometric": "ycbcr"}, "colour kind YCBCR"),
        (smooth("uint8", 3).astype(np.int16), {"photometric": "rgb"}, "int16"),
        (smooth("float32", 3).astype(np.float64), {"photometric": "rgb"}, "float64"),
        (smooth("float32", 3) + 1, {"photometric": "rgb"}, "from 1 to 1.816, only 0 to 1"),
        (smooth("float32", 3) * np.nan, {"photometric": "rgb"}, "from nan to nan"),
        (smooth("uint8", 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "ASSOCALPHA"),
        (smooth("uint8", 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}, "UNSPECIFIED"),
        (smooth("uint8", 5), {"photometric": "rgb"}, "5 channels"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(array, options, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(written(array, planarconfig="contig", **options), "x.tif")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_every_truncation_is_refused(compression, capfd):
    array = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    data = written(array, photometric="rgb", compression=compression)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        end = page.dataoffsets[-1] + page.databytecounts[-1]  # behind it there is only padding
    for length in range(4, end):
        with pytest.raises(ImageError, match=r"^x\.tif: [^\n]+$"):
            decode_image(data[:length], "x.tif")
    np.testing.assert_array_equal(decode_image(data[:end], "x.tif").pixels, array)
    assert capfd.readouterr() == ("", "")


def test_size_is_checked_before_decoding():
    data = written(smooth("uint8", 3), photometric="rgb")
    with pytest.raises(ImageError, match="56×40 pixels, the limit is 2239"):
        decode_image(data, "x.tif", max_pixels=40 * 56 - 1)
    bomb = patched(patched(data, 256, 10**6), 257, 10**6)
    with pytest.raises(ImageError, match="1000000×1000000 pixels, the limit is 500000000"):
        decode_image(bomb, "x.tif")


def test_png_becomes_tiff_without_what_only_png_holds():
    image = Image(smooth("uint16", 3), metadata=Metadata("PNG", icc=b"profile", blocks=((b"tEXt", b"a\0b"),)))
    again = decode_image(encode_image(image, "TIFF"), "x.tif")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.metadata == Metadata("TIFF", icc=b"profile")
