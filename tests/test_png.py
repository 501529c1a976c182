"""PNG: every kind that the standard knows, against Pillow and bytes made by hand; damage; metadata."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms, ImageOps, PngImagePlugin

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image
from pipcli.images.colour import SRGB_PRIMARIES, colours_of, profile_of

RNG = np.random.default_rng(11)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def raw_png(rows: bytes, width: int, height: int, bits: int, colour: int, *extra: bytes) -> bytes:
    """A file from unfiltered rows, each without its filter byte; the test's own encoder."""
    size = len(rows) // height
    filtered = b"".join(b"\0" + rows[size * y : size * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *extra,
            chunk(b"IDAT", zlib.compress(filtered)),
            chunk(b"IEND", b""),
        ]
    )


def pillow_png(picture: PillowImage.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", **options)
    return out.getvalue()


def chunks(data: bytes) -> dict[bytes, bytes]:
    found, position = {}, 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found[kind] = data[position + 8 : position + 8 + length]
        position += 12 + length
    return found


def random_image(dtype: type, channels: int, alpha: bool) -> Image:
    peak = np.iinfo(dtype).max
    planes = RNG.integers(0, peak, (13, 21, channels + 1), dtype=dtype, endpoint=True)
    return Image(planes[:, :, :channels], planes[:, :, channels] if alpha else None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_writing_and_reading_gives_the_same_pixels(dtype, channels, alpha):
    image = random_image(dtype, channels, alpha)
    again = decode_image(encode_image(image), "x.png")
    assert again.pixels.dtype == dtype
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bits_are_read_from_bytes_made_by_hand(channels, alpha):
    planes = channels + alpha
    values = RNG.integers(0, 65536, (5, 7, planes))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[planes]
    image = decode_image(raw_png(values.astype(">u2").tobytes(), 7, 5, 16, colour), "x.png")
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels, values[:, :, :channels])
    if alpha:
        np.testing.assert_array_equal(image.alpha, values[:, :, -1])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_come_out_as_eight(bits):
    values = np.arange(16) % 2**bits
    packed = np.packbits(((values[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8))
    image = decode_image(raw_png(packed.tobytes(), 16, 1, bits, 0), "x.png")
    np.testing.assert_array_equal(image.pixels[0, :, 0], values * 255 // (2**bits - 1))
    assert image.pixels.dtype == np.uint8


@pytest.mark.parametrize("interlaced", [False, True])
def test_eight_bits_are_as_pillow_writes_them(interlaced):
    values = RNG.integers(0, 256, (19, 17, 4), dtype=np.uint8)
    for mode, channels, alpha in [("L", 1, False), ("LA", 1, True), ("RGB", 3, False), ("RGBA", 3, True)]:
        picture = PillowImage.fromarray(values).convert(mode)
        planes = np.asarray(picture).reshape(19, 17, channels + alpha)
        image = decode_image(pillow_png(picture, interlace=interlaced), "x.png")
        np.testing.assert_array_equal(image.pixels, planes[:, :, :channels])
        assert (image.alpha is not None) == alpha
        if alpha:
            np.testing.assert_array_equal(image.alpha, planes[:, :, channels])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palette_comes_out_as_rgb_and_says_so(bits, transparent):
    picture = PillowImage.fromarray(RNG.integers(0, 256, (9, 10, 3), dtype=np.uint8)).quantize(2**bits)
    options = {"transparency": 1} if transparent else {}
    data = pillow_png(picture, bits=bits, **options)
    image = decode_image(data, "x.png")
    expected = np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGBA"))
    np.testing.assert_array_equal(image.pixels, expected[:, :, :3])
    assert image.metadata.notes == ("palette image read as RGB",)
    assert (image.alpha is not None) == transparent
    if transparent:
        np.testing.assert_array_equal(image.alpha, expected[:, :, 3])
    assert decode_image(encode_image(image), "x.png").metadata.notes == ()


def test_a_transparent_colour_becomes_alpha():
    rows = np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    image = decode_image(raw_png(rows.tobytes(), 2, 1, 8, 2, key), "x.png")
    np.testing.assert_array_equal(image.pixels, rows)
    np.testing.assert_array_equal(image.alpha, [[0, 255]])


def test_metadata_survives():
    exif = PillowImage.Exif()
    exif[0x010F] = "a maker"
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    text.add_itxt("Title", "schön", zip=True)
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    text.add(b"gAMA", struct.pack(">I", 45455))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = PillowImage.new("RGB", (4, 3))
    source = pillow_png(picture, pnginfo=text, exif=exif, icc_profile=profile, dpi=(300, 150))
    image = decode_image(source, "x.png")
    assert image.metadata.icc == profile
    assert image.metadata.xmp == b"<x:xmpmeta/>"
    assert image.metadata.dpi == pytest.approx((300, 150), abs=0.02)

    written = encode_image(image)
    before, after = chunks(source), chunks(written)
    for kind in (b"tEXt", b"gAMA", b"pHYs", b"eXIf"):
        assert after[kind] == before[kind]
    with PillowImage.open(io.BytesIO(written)) as again:
        again.load()
        assert again.text["Author"] == "somebody"
        assert again.text["Title"] == "schön"
        assert again.info["icc_profile"] == profile
        assert again.info["xmp"] == b"<x:xmpmeta/>"
        assert again.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert again.getexif()[0x010F] == "a maker"
    assert sorted(decode_image(written, "x.png").metadata.blocks) == sorted(image.metadata.blocks)


def test_exif_with_the_prefix_of_jpeg_is_understood():
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    source = pillow_png(PillowImage.new("RGB", (4, 3)))
    block = chunk(b"eXIf", b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"))
    image = decode_image(source[:33] + block + source[33:], "x.png")
    assert (image.height, image.width) == (4, 3)
    assert image.metadata.exif.startswith((b"II*", b"MM\0*"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    picture = PillowImage.fromarray(RNG.integers(0, 256, (5, 8, 4), dtype=np.uint8))
    source = pillow_png(picture, exif=exif, dpi=(300, 150))
    image = decode_image(source, "x.png")
    expected = np.asarray(ImageOps.exif_transpose(PillowImage.open(io.BytesIO(source))))
    np.testing.assert_array_equal(np.dstack([image.pixels, image.alpha]), expected)
    assert image.metadata.dpi == pytest.approx((300, 150) if orientation < 5 else (150, 300), abs=0.02)
    again = PillowImage.open(io.BytesIO(encode_image(image)))
    assert again.getexif()[0x0112] == 1
    np.testing.assert_array_equal(np.asarray(again), expected)


def test_every_truncation_is_refused():
    data = pillow_png(PillowImage.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)))
    for length in range(1, len(data)):
        with pytest.raises(ImageError, match=r"^x\.png: "):
            decode_image(data[:length], "x.png")


def test_pixels_that_end_too_early_are_refused():
    rows = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
    short = raw_png(rows[:3].tobytes(), 6, 3, 8, 0)
    header = struct.pack(">IIBBBBB", 6, 6, 8, 0, 0, 0, 0)
    with pytest.raises(ImageError, match="damaged PNG"):
        decode_image(short[:8] + chunk(b"IHDR", header) + short[33:], "x.png")


def test_wrong_checksums():
    data = raw_png(bytes(4), 2, 2, 8, 0, chunk(b"tEXt", b"a\0b"))
    at = data.index(b"IDAT") + 6
    with pytest.raises(ImageError, match="wrong checksum of chunk 'IDAT'"):
        decode_image(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], "x.png")
    at = data.index(b"tEXt") + 4  # not critical: left out
    image = decode_image(data[:at] + b"b" + data[at + 1 :], "x.png")
    assert image.metadata.blocks == ()


def test_animation_is_refused():
    frames = [PillowImage.new("L", (4, 4), shade) for shade in (0, 99)]
    with pytest.raises(ImageError, match="animated PNG"):
        decode_image(pillow_png(frames[0], save_all=True, append_images=frames[1:]), "x.png")


def test_size_is_checked_before_decoding():
    bomb = raw_png(b"\0", 1, 1, 8, 0)
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    bomb = bomb[:8] + chunk(b"IHDR", header) + bomb[33:]
    with pytest.raises(ImageError, match="2147483647×2147483647 pixels, the limit is 500000000"):
        decode_image(bomb, "x.png")
    image = random_image(np.uint8, 3, alpha=False)
    data = encode_image(image)
    assert decode_image(data, "x.png", max_pixels=13 * 21).pixels.shape == (13, 21, 3)
    with pytest.raises(ImageError, match="21×13 pixels, the limit is 272"):
        decode_image(data, "x.png", max_pixels=13 * 21 - 1)


def test_a_profile_that_inflates_without_end_is_left_out():
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80 << 20), 9))
    assert decode_image(raw_png(b"\0", 1, 1, 8, 0, bomb), "x.png").metadata.icc is None


def test_float_pixels_are_refused():
    with pytest.raises(ImageError, match="not floating-point"):
        encode_image(Image(np.zeros((2, 2, 3), np.float32), metadata=Metadata("PNG")))


def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """A red PNG of RGB with chunks before its pixels."""
    out = io.BytesIO()
    PillowImage.new("RGB", (4, 3), (255, 0, 0)).save(out, "PNG")
    data = out.getvalue()
    middle = b"".join(
        struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in chunks
    )
    return data[:33] + middle + data[33:]


def chromaticities(*numbers: float) -> bytes:
    return struct.pack(">8I", *(round(number * 100_000) for number in numbers))


P3_PRIMARIES = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
SRGB_CHROMATICITIES = chromaticities(*SRGB_PRIMARIES[6:], *SRGB_PRIMARIES[:6])
GAMMA = struct.pack(">I", 45455)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], None),
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))], None),
        ([(b"gAMA", GAMMA), (b"cHRM", SRGB_CHROMATICITIES)], None),
        ([(b"gAMA", struct.pack(">I", 100_000))], profile_of(SRGB_PRIMARIES, 1.0)),
        ([(b"cICP", bytes([1, 13, 0, 1]))], None),
        ([(b"cICP", bytes([12, 13, 0, 1]))], profile_of(P3_PRIMARIES, None)),
    ],
    ids=str,
)
def test_colours_given_as_numbers_become_a_profile(chunks, expected):
    image = decode_image(with_chunks(*chunks), "x.png")
    assert image.metadata.icc == expected
    again = decode_image(encode_image(image), "x.png")
    assert again.metadata == image.metadata


def test_chromaticities_are_those_of_the_profile():
    wide = chromaticities(*P3_PRIMARIES[6:], *P3_PRIMARIES[:6])
    image = decode_image(with_chunks((b"gAMA", GAMMA), (b"cHRM", wide)), "x.png")
    found = colours_of(image.metadata.icc, 3).to_srgb(np.array([[[1.0, 0.0, 0.0]]], np.float32))
    np.testing.assert_allclose(found, [[[1.0930, -0.2267, -0.1501]]], atol=0.004)


def test_high_dynamic_range_is_refused_beside_a_profile_too():
    fallback = b"sRGB\0\0" + zlib.compress(profile_of(SRGB_PRIMARIES, None))
    data = with_chunks((b"cICP", bytes([9, 16, 0, 1])), (b"iCCP", fallback))
    with pytest.raises(ImageError, match=r"^x\.png: is a PNG that is of high dynamic range \(PQ\)"):
        decode_image(data, "x.png")
    usual = with_chunks((b"cICP", bytes([1, 13, 0, 1])), (b"iCCP", fallback))
    assert decode_image(usual, "x.png").metadata.icc == zlib.decompress(fallback[6:])


def test_high_dynamic_range_is_refused_and_nonsense_left_out_of_account():
    with pytest.raises(ImageError, match=r"^x\.png: is a PNG that is of high dynamic range \(PQ\)"):
        decode_image(with_chunks((b"cICP", bytes([9, 16, 0, 1]))), "x.png")
    nowhere = chromaticities(*[0.0] * 8)
    assert decode_image(with_chunks((b"gAMA", GAMMA), (b"cHRM", nowhere)), "x.png").metadata.icc is None
    assert decode_image(with_chunks((b"gAMA", bytes(4))), "x.png").metadata.icc is None


@pytest.mark.parametrize(("bits", "notes"), [(1, "1 bit"), (2, "2 bits"), (4, "4 bits"), (8, None)])
def test_few_bits_are_said(bits, notes):
    image = decode_image(raw_png(bytes(bits), 8, 1, bits, 0), "x.png")
    assert image.metadata.notes == ((f"{notes} a channel read as 8",) if notes else ())


def test_chunks_that_are_left_out_are_named():
    source = with_chunks((b"sBIT", b"\5\5\5"), (b"bKGD", bytes(6)), (b"tIME", bytes(7)), (b"vpAg", bytes(9)))
    image = decode_image(source, "x.png")
    assert image.metadata.notes == ("chunks left out, unknown or no longer right: bKGD, sBIT, vpAg",)
    assert not chunks(encode_image(image)).keys() & {b"sBIT", b"bKGD", b"tIME", b"vpAg"}


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_shape_of_pixels_stays(orientation):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    source = with_chunks((b"pHYs", struct.pack(">IIB", 2, 1, 0)), (b"eXIf", exif.tobytes()[6:]))
    image = decode_image(source, "x.png")
    sides = (2, 1) if orientation == 1 else (1, 2)
    assert (image.metadata.aspect, image.metadata.dpi) == (sides, None)
    assert chunks(encode_image(image))[b"pHYs"] == struct.pack(">IIB", *sides, 0)
    square = decode_image(with_chunks((b"pHYs", struct.pack(">IIB", 3, 3, 0))), "x.png")
    assert square.metadata.aspect is None
