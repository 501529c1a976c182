"""TIFF: kinds and compressions against tifffile and Pillow, metadata, damage, and what is refused."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from pictures import smooth
from PIL import Image as PillowImage
from PIL import ImageOps, IptcImagePlugin
from profiles import grey_ink_profile
from skimage import color

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, Wishes, decode_image, encode_image
from pipcli.images.colour import SRGB_PRIMARIES, profile_of
from pipcli.images.image import TiffCoding

PROFILE = profile_of(SRGB_PRIMARIES, 1.8)
RNG = np.random.default_rng(7)


def written(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()


def tags_of(data: bytes, page: int = 0) -> dict[int, object]:
    """Number of a tag → its value."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return {tag.code: np.asarray(tag.value).tolist() for tag in file.pages[page].tags}


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
    assert image.metadata.notes == (
        "palette image read as RGB" if mode == "P" else "1 bit a channel read as 8",
    )


def test_a_palette_whose_numbers_are_of_8_bits_is_not_black():
    indices = smooth("uint8", 1)[:, :, 0]
    table = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 40)]).astype(np.uint16)
    for colours in (table, table * 256, table * 257):
        image = decode_image(written(indices, photometric="palette", colormap=colours), "x.tif")
        np.testing.assert_array_equal(image.pixels, table.T[indices])


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


@pytest.mark.parametrize(
    ("resolution", "unit", "dpi"),
    [
        ((9.2, 4.6), "none", None),
        ((2, 1), "none", None),
        ((100_000, 50_000), "centimeter", None),
        ((4_000_000_000, 70_000), "inch", None),
        ((300, 150), "inch", (300, 150)),
        ((1000 / 3, 250), "centimeter", (2540 / 3, 635)),
        ((20, 10), "millimeter", None),
        ((0, 3), "inch", None),
    ],
)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_resolution_is_written_back_as_it_is(resolution, unit, dpi, orientation):
    source = written(
        smooth("uint8", 1)[:, :, 0], photometric="minisblack", resolution=resolution, resolutionunit=unit,
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    image = decode_image(source, "x.tif")
    turned = slice(None, None, -1 if orientation == 6 else 1)
    assert image.metadata.dpi == (None if dpi is None else pytest.approx(dpi[turned]))
    before, after = tags_of(source), tags_of(encode_image(image))
    assert [after[282], after[283]] == [before[282], before[283]][turned]
    assert after[296] == before[296]


def test_the_scale_of_imagej_stays_with_its_unit():
    out = io.BytesIO()
    tifffile.imwrite(
        out, smooth("uint8", 1)[:, :, 0], imagej=True, resolution=(9.2, 9.2), metadata={"unit": "um"}
    )
    again = encode_image(decode_image(out.getvalue(), "x.tif"))
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "um"
        assert file.pages[0].resolution == pytest.approx((9.2, 9.2))
        assert file.pages[0].resolutionunit == 1


@pytest.mark.parametrize("kind", [2, 4, 5, 10, 11])
def test_a_resolution_that_is_none_is_left_out(kind):
    values = {2: "300 ", 4: 300, 5: (300, 0), 10: (-300, 1), 11: (300.0, 1.0)}[kind]
    spare = written(
        smooth("uint8", 1)[:, :, 0],
        photometric="minisblack",
        extratags=[(60000, kind, 2 if kind == 11 else 1, values, True)],
    )
    source = bytearray(spare)
    folder = struct.unpack_from("<I", spare, 4)[0]
    for index in range(struct.unpack_from("<H", spare, folder)[0]):
        at = folder + 2 + 12 * index
        code = struct.unpack_from("<H", spare, at)[0]
        struct.pack_into("<H", source, at, {282: 60001, 60000: 282}.get(code, code))
    image = decode_image(bytes(source), "x.tif")
    assert image.metadata.tiff.resolution is None
    assert tags_of(encode_image(image))[282] == [1, 1]


def stack(kind: str, dtype: str = "uint16") -> tuple[bytes, np.ndarray]:
    """Five planes under one page, as programs write them."""
    planes = np.stack([smooth(dtype, 1)[:, :, 0] + np.uint8(number) for number in range(5)])
    out = io.BytesIO()
    options: dict[str, object] = {"photometric": "minisblack", "truncate": True}
    if kind == "imagej":
        options = {"imagej": True, "truncate": True, "metadata": {"axes": "ZYX"}}
    elif kind == "stk":  # its own tag tells the number of planes, a pair of fractions for each
        options["extratags"] = [(33629, 5, 5, (1, 2) * 5, True)]
    tifffile.imwrite(out, planes, **options)
    data = out.getvalue()
    if kind == "stk":
        data = data.replace(b'{"shape"', b'{"ehape"')
    if kind == "old":
        data = data.replace(b'{"shape": [5, 40, 56], "truncated": true}', b"shape=(5,40,56)".ljust(41, b"\0"))
    return data, planes


@pytest.mark.parametrize("kind", ["tifffile", "old", "imagej", "stk"])
def test_planes_without_pages_of_their_own_are_refused(kind):
    data, planes = stack(kind)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert len(file.pages) == 1
    with pytest.raises(ImageError, match=r"^x\.tif: is a TIFF of 5 planes under one page, the limit is 1$"):
        decode_image(data, "x.tif")
    # What follows the first plane is gone: what the description says is left over.
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        end = page.dataoffsets[0] + page.nbytes
    np.testing.assert_array_equal(decode_image(data[:end], "x.tif").pixels[:, :, 0], planes[0])


@pytest.mark.parametrize("imagej", [False, True])
def test_planes_with_pages_of_their_own_are_pages(imagej):
    planes = np.stack([smooth("uint8", 1)[:, :, 0] + np.uint8(number) for number in range(5)])
    out = io.BytesIO()
    options = {"imagej": True} if imagej else {"photometric": "minisblack"}
    tifffile.imwrite(out, planes, **options)
    image = decode_image(out.getvalue(), "x.tif")
    assert len(image.further) == 4
    again = decode_image(encode_image(image), "x.tif")
    for page, plane in zip((again, *again.further), planes, strict=True):
        np.testing.assert_array_equal(page.pixels[:, :, 0], plane)


def test_one_stack_among_pages_is_named():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(np.zeros((3, 40, 56), np.uint8), photometric="minisblack", truncate=True)
        file.write(smooth("uint8", 3), photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match="page 1 of 2: is a TIFF of 3 planes under one page, the limit is 1"):
        decode_image(out.getvalue(), "x.tif")


CURVES = tuple(int((i / 255) ** 1.8 * 65535) for i in range(256)) * 3
DOCUMENT = [
    (269, 2, 0, "scan 17 of a ledger", True),
    (285, 2, 0, "a page", True),
    (297, 3, 2, (0, 3), True),
    (301, 3, 768, CURVES, True),
    (318, 5, 2, (3127, 10000, 3290, 10000), True),
    (319, 5, 6, (64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100), True),
]


def test_tags_of_documents_and_colours_stay():
    source = written(smooth("uint8", 3), photometric="rgb", extratags=DOCUMENT)
    image = decode_image(source, "x.tif")
    assert image.metadata.notes == ()
    before, after = tags_of(source), tags_of(encode_image(image))
    for code, *_ in DOCUMENT:
        assert after[code] == before[code], code
    assert (
        tags_of(encode_image(image, wishes=Wishes(quality=80)))[301] == np.reshape(CURVES, (3, 256)).tolist()
    )
    assert 301 not in tags_of(encode_image(image, wishes=Wishes(bits=16)))


@pytest.mark.parametrize(
    ("array", "options", "lost"),
    [
        (smooth("uint16", 3), {"photometric": "rgb"}, "301"),
        (smooth("uint8", 1)[:, :, 0], {"photometric": "miniswhite"}, "301"),
        (smooth("float32", 3), {"photometric": "rgb"}, "301"),
        (smooth("uint8", 1)[:, :, 0] // 16, {"photometric": "minisblack", "bitspersample": 4}, "301"),
        (smooth("uint8", 4), {"photometric": "separated"}, "301, 318, 319"),
    ],
)
def test_curves_and_primaries_that_are_no_longer_right_are_left_out_and_said(array, options, lost):
    image = decode_image(written(array, extratags=DOCUMENT, **options), "x.tif")
    assert image.metadata.notes[-1] == f"tags left out, unknown or no longer right: {lost}"
    after = tags_of(encode_image(image))
    assert not after.keys() & {int(code) for code in lost.split(", ")}
    assert after[269] == "scan 17 of a ledger"


def test_unknown_tags_are_named_once_for_all_pages():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        for codes in ((65000, 34682), (65000, 60001), ()):
            tags = [(code, 2, 0, "private", True) for code in codes]
            file.write(smooth("uint8", 3), photometric="rgb", metadata=None, extratags=tags)
    image = decode_image(out.getvalue(), "x.tif")
    assert image.metadata.notes == ("tags left out, unknown or no longer right: 34682, 60001, 65000",)


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg", "zlib"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"predictor": True}], ids=str)
def test_tags_of_the_storage_are_not_missed(compression, options):
    if "predictor" in options and compression not in ("lzw", "zlib"):
        options = {}
    source = written(smooth("uint8", 3), photometric="rgb", compression=compression, **options)
    assert decode_image(source, "x.tif").metadata.notes == ()


def test_what_pillow_writes_is_not_missed():
    picture = PillowImage.fromarray(smooth("uint8", 3))
    for mode in ("1", "L", "RGB", "RGBA"):
        for compression in ("raw", "group4", "tiff_lzw", "jpeg"):
            if (compression == "group4") == (mode == "1") and (mode, compression) != ("RGBA", "jpeg"):
                out = io.BytesIO()
                picture.convert(mode).save(out, "TIFF", compression=compression, dpi=(300, 300))
                assert not any(
                    "tags" in note for note in decode_image(out.getvalue(), "x.tif").metadata.notes
                )


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (9, r"JBIG_BW \(9\)"),
        (32809, r"THUNDERSCAN \(32809\)"),
        (34676, r"SGILOG \(34676\)"),
        (48124, r"JETRAW \(48124\)"),
        (65000, r"EER_V0 \(65000\)"),
        (12345, "12345"),
    ],
)
def test_compressions_that_nothing_decodes_are_named(number, named):
    data = patched(written(smooth("uint8", 3), photometric="rgb"), 259, number)
    with pytest.raises(
        ImageError, match=f"^x.tif: is a TIFF of compression {named}, which is not supported$"
    ):
        decode_image(data, "x.tif")


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


def test_previews_are_left_out():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(smooth("uint8", 3), photometric="rgb", metadata=None)
        file.write(smooth("uint8", 3)[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    image = decode_image(out.getvalue(), "x.tif")
    np.testing.assert_array_equal(image.pixels, smooth("uint8", 3))
    assert image.metadata.notes == ("previews in the file are left out",)
    with pytest.raises(ImageError, match="only previews"):
        decode_image(written(smooth("uint8", 3), photometric="rgb", subfiletype=1), "x.tif")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_all_pages_are_kept_each_of_its_own_kind(bigtiff):
    arrays = [smooth("uint8", 3), smooth("uint16", 1)[:20, :, 0], smooth("float32", 3)[:9, :11]]
    out = io.BytesIO()
    with tifffile.TiffWriter(out, bigtiff=bigtiff) as file:
        for number, array in enumerate(arrays):
            file.write(
                array, photometric="rgb" if array.ndim == 3 else "minisblack", metadata=None,
                compression=["lzw", None, "zlib"][number], extratags=[(270, 2, 0, f"page {number}", True)],
            )  # fmt: skip
    image = decode_image(out.getvalue(), "x.tif")
    assert [page.pixels.dtype for page in image.further] == [np.uint16, np.float32]
    again = encode_image(image)
    with tifffile.TiffFile(io.BytesIO(again)) as file:
        assert file.is_bigtiff == bigtiff
        for number, (page, array) in enumerate(zip(file.pages, arrays, strict=True)):
            np.testing.assert_array_equal(page.asarray(), array)
            assert page.compression == [5, 1, 8][number]
            assert page.tags[270].value == f"page {number}"
    with pytest.raises(ImageError, match=r"has 3459 pixels on 3 pages, the limit is 3000"):
        decode_image(out.getvalue(), "x.tif", max_pixels=3000)


def test_one_bad_page_refuses_the_file_and_is_named():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(smooth("uint8", 3), photometric="rgb", metadata=None)
        file.write(smooth("uint8", 4), photometric="cielab", extrasamples=[0], metadata=None)
    with pytest.raises(ImageError, match=r"^x\.tif: page 2 of 2: is a TIFF of colour kind CIELAB"):
        decode_image(out.getvalue(), "x.tif")
    mask = written(smooth("uint8", 3), photometric="rgb", subfiletype=2)
    with pytest.raises(ImageError, match="masks another"):
        decode_image(patched(mask, 254, 4), "x.tif")


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"compression": "lzw", "predictor": True, "rowsperstrip": 7}),
        ("uint16", {"compression": "zlib", "predictor": False, "tile": (16, 32)}),
        ("uint16", {"compression": "zstd", "predictor": True, "bigtiff": True}),
        ("float32", {"compression": "lzw", "predictor": True}),
        ("float32", {"compression": None, "rowsperstrip": 5}),
        ("uint8", {"compression": "packbits"}),
        ("uint8", {"compression": "lzma"}),
    ],
    ids=str,
)
def test_pages_are_stored_as_their_source(dtype, options):
    planes = smooth(dtype, 3)
    source = written(planes, photometric="rgb", **options)
    result = encode_image(decode_image(source, "x.tif"))
    with tifffile.TiffFile(io.BytesIO(source)) as before, tifffile.TiffFile(io.BytesIO(result)) as after:
        np.testing.assert_array_equal(after.asarray(), planes)
        assert after.is_bigtiff == before.is_bigtiff
        pages = before.pages[0], after.pages[0]
        for name in ("compression", "predictor", "rowsperstrip", "is_tiled", "tile"):
            assert getattr(pages[0], name) == getattr(pages[1], name), name


@pytest.mark.parametrize(("quality", "subsampling"), [(60, (2, 2)), (85, (2, 1)), (95, (1, 1)), (90, None)])
def test_jpeg_in_tiff_keeps_its_quality_and_subsampling(quality, subsampling):
    arguments = {"level": quality} if subsampling else {"level": quality, "outcolorspace": "rgb"}
    source = written(
        smooth("uint8", 3), photometric="rgb", compression="jpeg", compressionargs=arguments,
        subsampling=subsampling,
    )  # fmt: skip
    image = decode_image(source, "x.tif")
    assert image.metadata.tiff.quality == quality
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        page = file.pages[0]
        assert page.compression == 7
        assert page.photometric == 6
        assert page.subsampling == (subsampling or (1, 1))
        assert np.abs(page.asarray().astype(int) - image.pixels).mean() < 4


def test_jpeg_in_tiff_that_ends_too_early_is_refused():
    planes = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = written(planes, photometric="rgb", compression="jpeg", rowsperstrip=32)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start, length = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    decode_image(data, "x.tif")
    cut = data[: start + length // 2] + b"\xff\xd9" + bytes(length - length // 2 - 2) + data[start + length :]
    with pytest.raises(ImageError, match=r"^x\.tif: damaged JPEG: its coded data end too early$"):
        decode_image(cut, "x.tif")


def test_compressions_that_few_readers_know_become_deflate_and_say_so():
    source = written(smooth("uint8", 3), photometric="rgb", compression="jpegxl")
    image = decode_image(source, "x.tif")
    assert image.metadata.notes == ("compression JPEGXL written as Deflate",)
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        assert file.pages[0].compression == 8


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_premultiplied_alpha_comes_back_exactly(dtype):
    rng = np.random.default_rng(3)
    peak = np.iinfo(dtype).max
    alpha = rng.integers(0, peak + 1, (40, 50, 1))
    colours = np.rint(rng.random((40, 50, 3)) * alpha)
    planes = np.concatenate([colours, alpha], axis=2).astype(dtype)
    source = written(planes, photometric="rgb", extrasamples=["assocalpha"])
    image = decode_image(source, "x.tif")
    solid = alpha[:, :, 0] > peak // 2
    np.testing.assert_allclose(
        image.pixels[solid].astype(float), colours[solid] * peak / alpha[solid], atol=0.51
    )
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        np.testing.assert_array_equal(file.asarray(), planes)
        assert file.pages[0].extrasamples == (1,)
    excess = planes.copy()
    excess[0, 0] = (10, 10, 10, 5)
    with pytest.raises(ImageError, match="exceed"):
        decode_image(written(excess, photometric="rgb", extrasamples=["assocalpha"]), "x.tif")


def test_a_channel_that_is_not_said_to_be_alpha_hides_nothing():
    planes = smooth("uint8", 4)
    planes[:, :20, 3] = 0
    image = decode_image(written(planes, photometric="rgb", extrasamples=["unspecified"]), "x.tif")
    assert image.metadata.notes == ("an extra channel that is not said to be alpha is carried through",)
    assert image.filled() is image
    np.testing.assert_array_equal(image.restored(image.pixels // 2).pixels, planes[:, :, :3] // 2)
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        np.testing.assert_array_equal(file.asarray(), planes)
        assert file.pages[0].extrasamples == (0,)
    assert decode_image(encode_image(image, "PNG"), "x.png").alpha is None


def test_floats_of_any_range_are_kept_and_said_so():
    planes = np.linspace(-1000, 3000, 40 * 56 * 3, dtype=np.float32).reshape(40, 56, 3)
    image = decode_image(written(planes, photometric="rgb"), "x.tif")
    low, high = np.quantile(planes, (0.001, 0.999))
    assert image.scale == pytest.approx((low, high))
    (note,) = image.metadata.notes
    assert note.startswith("numbers from -1000 to 3000, restored on a scale from -996 to 2996")
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        np.testing.assert_array_equal(file.asarray(), planes)


def test_a_few_lights_do_not_widen_the_scale_of_floats():
    planes = smooth("float32", 1)[:, :, 0].copy()
    planes[3, 5] = 900
    image = decode_image(written(planes, photometric="minisblack"), "x.tif")
    assert image.scale == (0, 1)
    assert image.metadata.notes == ("numbers from 0 to 900, restored on a scale from 0 to 1",)
    stored = image.store(image.crop_float(0, 40, 0, 56))
    np.testing.assert_allclose(stored[:, :, 0], planes, rtol=1e-6)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_exif_and_gps_folders_go_in_and_out(bigtiff, byteorder):
    picture = PillowImage.new("RGB", (8, 6), "grey")
    exif = PillowImage.Exif()
    exif[271] = "a maker"
    exif[0x8769] = {33434: 0.004, 34855: 400, 36867: "2024:05:06 07:08:09", 37500: b"notes"}
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.5)}
    exif.endian = byteorder
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif.tobytes())
    photo = decode_image(out.getvalue(), "x.jpg")
    coding = TiffCoding(big=bigtiff)
    first = encode_image(
        Image(np.full((6, 8, 3), 9, np.uint8), metadata=replace(photo.metadata, tiff=coding)), "TIFF"
    )
    second = encode_image(decode_image(first, "x.tif"))
    back = encode_image(decode_image(second, "x.tif"), "JPEG")
    for data in (back,) if bigtiff else (first, second, back):  # Pillow reads no folders of BigTIFF
        found = PillowImage.open(io.BytesIO(data)).getexif()
        assert found[271] == "a maker"
        camera, place = found.get_ifd(0x8769), found.get_ifd(0x8825)
        assert (float(camera[33434]), camera[34855]) == (0.004, 400)
        assert (camera[36867], camera[37500]) == ("2024:05:06 07:08:09", b"notes")
        assert [float(number) for number in place[2]] == [52.0, 31.0, 12.5]
    with tifffile.TiffFile(io.BytesIO(second)) as file:
        assert file.is_bigtiff == bigtiff
        assert file.byteorder == byteorder
        assert file.pages[0].tags[34665].value["ISOSpeedRatings"] == 400
        np.testing.assert_array_equal(file.asarray(), np.full((6, 8, 3), 9))
    assert "maker notes" in decode_image(second, "x.tif").metadata.notes[0]


def test_iptc_goes_between_jpeg_and_tiff():
    record = b"\x1c\x02\x05\x00\x05title"
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\x04abcd"
    resources = thumbnail + b"8BIM\x04\x04\0\0\0\0\0\x0a" + record
    payload = b"Photoshop 3.0\0" + resources
    out = io.BytesIO()
    PillowImage.new("RGB", (8, 8)).save(out, "JPEG")
    jpeg = out.getvalue()
    jpeg = jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]
    photo = decode_image(jpeg, "x.jpg")
    assert photo.metadata.iptc == record
    for data in (encode_image(photo), encode_image(photo, "TIFF")):
        picture = PillowImage.open(io.BytesIO(data))
        assert IptcImagePlugin.getiptcinfo(picture)[(2, 5)] == b"title"
        assert b"abcd" not in data
    tiff = decode_image(encode_image(photo, "TIFF"), "x.tif")
    picture = PillowImage.open(io.BytesIO(encode_image(tiff, "JPEG")))
    assert IptcImagePlugin.getiptcinfo(picture)[(2, 5)] == b"title"


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (smooth("uint8", 4), {"photometric": "cielab", "extrasamples": [0]}, "colour kind CIELAB"),
        (smooth("uint8", 5), {"photometric": "separated", "extrasamples": [0]}, "CMYK TIFF of 5 channels"),
        (smooth("float32", 4), {"photometric": "separated"}, "CMYK TIFF of 32 bits"),
        (smooth("uint8", 4), {"photometric": "separated", "compression": "jpeg"}, "CMYK TIFF of JPEG"),
        (
            smooth("uint8", 4),
            {"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]},
            "other inks than CMYK",
        ),
        (smooth("uint8", 3), {"photometric": "ycbcr"}, "colour kind YCBCR"),
        (smooth("uint8", 3).astype(np.int16), {"photometric": "rgb"}, "int16"),
        (smooth("float32", 3).astype(np.float64) * 1e300, {"photometric": "rgb"}, "no finite numbers"),
        (smooth("float32", 3) * np.nan, {"photometric": "rgb"}, "no finite numbers"),
        (smooth("uint8", 2), {"photometric": "minisblack"}, "none is said to be alpha"),
        (smooth("uint8", 5), {"photometric": "rgb"}, "5 channels"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(array, options, reason):
    with pytest.raises(ImageError, match=reason):
        decode_image(written(array, planarconfig="contig", **options), "x.tif")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("predictor", [False, True])
def test_other_floats_are_written_back_as_they_were(dtype, predictor):
    planes = (smooth("float32", 4) * 40 - 3).astype(dtype)
    data = written(
        planes, photometric="rgb", extrasamples=["unassalpha"], compression="zlib", predictor=predictor
    )
    image = decode_image(data, "x.tif")
    np.testing.assert_array_equal(image.pixels, planes[:, :, :3].astype(np.float32))
    assert ("64-bit numbers restored in 32" in image.metadata.notes) == (dtype == "float64")
    again = tifffile.imread(io.BytesIO(encode_image(image)))
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, planes.astype(np.float32).astype(dtype))
    wider = tifffile.imread(io.BytesIO(encode_image(image, wishes=Wishes(bits=32))))
    assert wider.dtype == np.float32


def test_what_16_bits_do_not_hold_is_clipped_and_not_infinite():
    image = decode_image(written(smooth("float32", 3).astype(np.float16), photometric="rgb"), "x.tif")
    bright = replace(image, pixels=np.full_like(image.pixels, 1e6))
    again = tifffile.imread(io.BytesIO(encode_image(bright)))
    np.testing.assert_array_equal(again, np.finfo(np.float16).max)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [False, True])
def test_cmyk_without_profile_filters_light(dtype, layout, alpha):
    """Against Pillow's conversion, which does without a profile too."""
    inks = smooth(dtype, 4 + alpha)
    planes = np.moveaxis(inks, 2, 0) if layout == "separate" else inks
    options = {"extrasamples": ["unassalpha"]} if alpha else {}
    data = written(planes, photometric="separated", planarconfig=layout, **options)
    image = decode_image(data, "x.tif")
    peak = np.iinfo(dtype).max
    eight = np.rint(inks[:, :, :4] / peak * 255).astype(np.uint8)
    expected = np.asarray(PillowImage.fromarray(eight, "CMYK").convert("RGB")) / 255
    np.testing.assert_allclose(image.pixels / peak, expected, atol=1.5 / 255)
    assert image.pixels.dtype == dtype
    assert image.metadata.notes == ("CMYK converted to sRGB",)
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        assert file.pages[0].photometric == 2
        np.testing.assert_array_equal(file.asarray()[:, :, :3], image.pixels)
        if alpha:
            np.testing.assert_array_equal(file.asarray()[:, :, 3], inks[:, :, 4])


def test_cmyk_of_pillow_is_read():
    inks = smooth("uint8", 4)
    out = io.BytesIO()
    PillowImage.fromarray(inks, "CMYK").save(out, "TIFF", compression="tiff_lzw", dpi=(300, 300))
    image = decode_image(out.getvalue(), "x.tif")
    expected = np.asarray(PillowImage.fromarray(inks, "CMYK").convert("RGB"))
    np.testing.assert_allclose(image.pixels.astype(int), expected, atol=1)
    assert image.metadata.dpi == (300, 300)


def test_cmyk_goes_through_its_profile_which_is_not_kept():
    inks = smooth("uint8", 4)
    data = written(inks, photometric="separated", iccprofile=grey_ink_profile())
    image = decode_image(data, "x.tif")
    share = 1 - inks[:, :, 3] / 510 - inks[:, :, :3].sum(axis=2) / 1530
    lab = np.stack([100 * share, 0 * share, 0 * share], axis=2)
    np.testing.assert_allclose(image.pixels, 255 * color.lab2rgb(lab), atol=3)
    assert image.metadata.icc is None
    with pytest.raises(ImageError, match=r"^x\.tif: has CMYK colours with a damaged profile"):
        decode_image(written(inks, photometric="separated", iccprofile=grey_ink_profile()[:200]), "x.tif")


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
    image = Image(smooth("uint16", 3), metadata=Metadata("PNG", icc=PROFILE, blocks=((b"tEXt", b"a\0b"),)))
    again = decode_image(encode_image(image, "TIFF"), "x.tif")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.metadata == Metadata("TIFF", icc=PROFILE, tiff=TiffCoding())


def test_a_header_that_asks_for_more_than_its_tiles_hold_is_refused_at_once():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((24, 36), np.uint8), tile=(16, 16))
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["ImageLength"].valueoffset
    data[place : place + 2] = (9000).to_bytes(2, "little")
    with pytest.raises(ImageError, match="fewer strips or tiles than its size needs"):
        decode_image(bytes(data), "a.tif")


def test_tiles_without_a_side_are_refused_in_silence():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((24, 36), np.uint8), tile=(16, 16))
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["TileLength"].valueoffset
    data[place : place + 2] = bytes(2)
    with pytest.raises(ImageError):  # numpy's warning of a division by zero would be an error here
        decode_image(bytes(data), "a.tif")


def in_use(bits: int, channels: int) -> np.ndarray:
    """Samples of 16 bits of which the lowest few are in use, from black to white."""
    planes = smooth("uint16", channels).astype(np.int64)
    return (planes * (2**bits - 1) // planes.max()).astype(np.uint16)


def said(highest: int | tuple[int, ...], channels: int) -> list[tuple[object, ...]]:
    """A MaxSampleValue of all channels, or of each."""
    each = highest if isinstance(highest, tuple) else (highest,) * channels
    return [(280, 3, channels, (0,) * channels, True), (281, 3, channels, each, True)]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_white_is_where_max_sample_value_says(bits, channels):
    samples, peak = in_use(bits, channels), 2**bits - 1
    options = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    options["photometric"] = "rgb" if channels > 2 else "minisblack"
    planes = samples if channels > 1 else samples[:, :, 0]
    image = decode_image(written(planes, extratags=said(peak, channels), **options), "x.tif")
    colours = samples[:, :, : image.channels]
    np.testing.assert_array_equal(image.pixels, np.rint(colours * (65535 / peak)))
    assert image.metadata.notes == ()
    data = encode_image(image)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)).reshape(samples.shape), samples)
    assert np.ravel(tags_of(data)[281]).tolist() == [peak] * channels
    assert np.ravel(tags_of(data)[280]).tolist() == [0] * channels
    white = image.with_pixels(image.store(np.ones((*image.pixels.shape[:2], 3), np.float32)))
    assert decode_image(encode_image(white), "x.tif").pixels.min() == 65535
    written_white = tifffile.imread(io.BytesIO(encode_image(white))).reshape(samples.shape)
    assert (written_white[:, :, : image.channels] == peak).all()


def test_other_files_take_white_from_max_sample_value():
    samples = in_use(12, 3)
    image = decode_image(written(samples, photometric="rgb", extratags=said(4095, 3)), "x.tif")
    for wishes, peak in ((Wishes("png"), 65535), (Wishes("png", bits=8), 255), (Wishes("tif", bits=8), 255)):
        data = encode_image(image, wishes=wishes)
        np.testing.assert_array_equal(decode_image(data, "x").pixels, np.rint(samples * (peak / 4095)))
    assert 281 not in tags_of(encode_image(image, wishes=Wishes("tif", bits=8)))
    for name in ("JPEG 2000", "AVIF"):
        data = encode_image(image, name)
        assert decode_image(data, "x").metadata.depth == 12, name
    assert decode_image(encode_image(image, "JPEG 2000"), "x").pixels.max() == 65535


def pages_of(*pages: tuple[np.ndarray, list[tuple[object, ...]]]) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as file:
        for samples, tags in pages:
            file.write(samples, photometric="rgb", metadata=None, extratags=tags)
    return out.getvalue()


@pytest.mark.parametrize(
    ("highest", "above"), [(4000, 0), (4095, 1), ((4095, 4095, 1023), 0), (127, 0), (65535, 0), (4095, 61000)]
)
def test_a_max_sample_value_that_is_no_white_is_none(highest, above):
    samples = in_use(7 if highest == 127 else 10, 3)
    samples[0, 0, 0] = 4095 * bool(above) + above
    image = decode_image(pages_of((samples, said(highest, 3))), "x.tif")
    np.testing.assert_array_equal(image.pixels, samples)
    data = encode_image(image)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), samples)
    assert 281 not in tags_of(data)


def test_pages_share_their_white_or_have_that_of_16_bits():
    samples = in_use(10, 3)
    same = decode_image(pages_of(*[(samples, said(1023, 3))] * 2), "x.tif")
    assert [page.pixels.max() for page in (same, *same.further)] == [65535, 65535]
    assert np.ravel(tags_of(encode_image(same), 1)[281]).tolist() == [1023] * 3
    for tags in (said(4095, 3), []):
        others = decode_image(pages_of((samples, said(1023, 3)), (samples, tags)), "x.tif")
        assert [page.pixels.max() for page in (others, *others.further)] == [1023, 1023]


def test_what_may_be_a_dark_picture_of_fewer_bits_is_said():
    note = (
        "uses at most {} of 65535, taken as a dark picture of 16 bits: "
        "MaxSampleValue (tag 281) would say how many are in use"
    )
    dark, bright = in_use(12, 3), in_use(13, 3)
    assert decode_image(pages_of((dark, [])), "x.tif").metadata.notes == (note.format(4095),)
    assert decode_image(pages_of((dark, []), (dark // 2, [])), "x.tif").metadata.notes == (note.format(4095),)
    for pages in ([(bright, [])], [(dark, []), (bright, [])], [(dark, said(4095, 3))], [(dark * 0, [])]):
        assert decode_image(pages_of(*pages), "x.tif").metadata.notes == ()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_light_that_hides_nothing_comes_back(dtype):
    rng = np.random.default_rng(5)
    planes = rng.random((24, 30, 4)).astype(dtype)
    planes[:, :, 3] = np.where(planes[:, :, 3] < 0.5, 0, 1)
    source = written(planes, photometric="rgb", extrasamples=["assocalpha"])
    image = decode_image(source, "x.tif")
    restored = image.restored(image.filled().pixels.copy())
    with tifffile.TiffFile(io.BytesIO(encode_image(restored))) as file:
        np.testing.assert_array_equal(file.asarray(), planes)


PLACE = [
    (33550, 12, 3, (10.0, 5.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 4000000.0, 0.0), True),
]
TURNED_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_georeference_and_the_pixels_that_it_counts_stay_together(orientation):
    planes = smooth("uint8", 4)
    turn = (274, 3, 1, orientation, True)
    packet = TURNED_XMP % orientation
    texts = [(271, 2, 0, "maker", True), (700, 1, len(packet), packet, True)]
    source = written(
        planes, photometric="rgb", extrasamples=["unassalpha"], resolution=(300, 150), resolutionunit="inch",
        extratags=[turn, *texts, *PLACE],
    )  # fmt: skip
    image = decode_image(source, "x.tif")
    before, after = tags_of(source), tags_of(encode_image(image))
    assert (after.get(274, 1), after[282], after[283]) == (orientation, before[282], before[283])
    for code in (271, 700, 33550, 33922):
        assert after[code] == before[code], code
    with tifffile.TiffFile(io.BytesIO(encode_image(image))) as file:
        np.testing.assert_array_equal(file.asarray(), planes)

    exif = PillowImage.Exif()
    exif[274] = orientation
    out = io.BytesIO()
    PillowImage.fromarray(planes).save(out, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(PillowImage.open(out))
    shown = decode_image(encode_image(image, "PNG"), "x.png")
    np.testing.assert_array_equal(np.dstack([shown.pixels, shown.alpha]), np.asarray(upright))
    assert shown.metadata.dpi == pytest.approx((300, 150) if orientation < 5 else (150, 300), rel=1e-3)
    assert shown.metadata.xmp == TURNED_XMP % 1
    with PillowImage.open(io.BytesIO(encode_image(image, "PNG"))) as picture:
        assert picture.getexif().get(274, 1) == 1


def test_pages_without_a_georeference_are_turned_beside_one_with_it():
    planes, turn = smooth("uint8", 3), (274, 3, 1, 6, True)
    image = decode_image(pages_of((planes, [turn, *PLACE]), (planes, [turn])), "x.tif")
    again = decode_image(encode_image(image), "x.tif")
    assert [page.pixels.shape for page in (again, *again.further)] == [(40, 56, 3), (56, 40, 3)]
    data = encode_image(image)
    assert (tags_of(data)[274], 274 in tags_of(data, 1)) == (6, False)


@pytest.mark.parametrize("to", ["PNG", "JPEG"])
def test_a_resolution_without_unit_is_the_shape_of_pixels(to):
    source = written(smooth("uint8", 3), photometric="rgb", resolution=(2, 1), resolutionunit="none")
    image = decode_image(encode_image(decode_image(source, "x.tif"), to), "x")
    assert (image.metadata.aspect, image.metadata.dpi) == ((2, 1), None)
    after = tags_of(encode_image(image, "TIFF"))
    assert [after[282], after[283], after[296]] == [[2, 1], [1, 1], 1]
