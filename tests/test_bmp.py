"""BMP against Pillow, which decodes it, and against rows made by hand."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, bmp, decode_image, encode_image
from pipcli.images.colour import profile_of

PLANES = np.random.default_rng(2).integers(0, 256, (9, 14, 4), dtype=np.uint8)


def pillow_bmp(picture: PillowImage.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "BMP", dpi=(300, 150))
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_writing_and_reading_gives_the_same_pixels(channels, alpha):
    image = Image(PLANES[:, :, :channels], PLANES[:, :, 3] if alpha else None)
    again = decode_image(encode_image(image, "BMP"), "x.bmp")
    expected = np.repeat(image.pixels, 3, axis=2) if alpha and channels == 1 else image.pixels
    np.testing.assert_array_equal(again.pixels, expected)
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)
    picture = PillowImage.open(io.BytesIO(encode_image(image, "BMP")))
    assert picture.mode == ("RGBA" if alpha else {1: "L", 3: "RGB"}[channels])


def test_rows_made_by_hand():
    rows = b"".join(row[:, ::-1].tobytes() + bytes(-3 * 14 % 4) for row in PLANES[::-1, :, :3])
    header = struct.pack("<IiiHHIIiiII", 40, 14, 9, 1, 24, 0, len(rows), 11811, 5906, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + header + rows
    image = decode_image(data, "x.bmp")
    np.testing.assert_array_equal(image.pixels, PLANES[:, :, :3])
    assert image.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    assert decode_image(encode_image(image), "x.bmp").metadata == image.metadata


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_are_as_pillow_shows_them(mode):
    picture = PillowImage.fromarray(PLANES[:, :, :3])
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    image = decode_image(pillow_bmp(picture), "x.bmp")
    expected = np.asarray(picture.convert("RGB" if mode in "PRGB" else "L"))
    np.testing.assert_array_equal(image.pixels, expected.reshape(image.pixels.shape))
    note = {"P": "palette image read as RGB", "1": "1 bit a channel read as 8"}.get(mode)
    assert image.metadata.notes == ((note,) if note else ())


def test_every_truncation_is_refused():
    data = pillow_bmp(PillowImage.fromarray(PLANES[:, :, :3]))
    for length in range(2, len(data) - 2):  # the last two bytes only fill the row
        with pytest.raises(ImageError, match=r"^x\.bmp: [^\n]+$"):
            decode_image(data[:length], "x.bmp")


P3 = profile_of((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290), 2.2)


def with_v5_header(profile: bytes, kind: bytes) -> bytes:
    """Rows of RGB under a BITMAPV5HEADER made by hand, the profile behind them."""
    rows = b"".join(row[:, ::-1].tobytes() + bytes(-3 * 14 % 4) for row in PLANES[::-1, :, :3])
    header = struct.pack("<IiiHHIIiiII", 124, 14, 9, 1, 24, 0, len(rows), 11811, 5906, 0, 0)
    header += bytes(16) + kind[::-1] + bytes(36 + 12)
    header += struct.pack("<4I", 4, 124 + len(rows), len(profile), 0)
    size = 14 + 124 + len(rows) + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + 124) + header + rows + profile


def test_a_profile_is_kept():
    data = with_v5_header(P3, b"MBED")
    image = decode_image(data, "x.bmp")
    np.testing.assert_array_equal(image.pixels, PLANES[:, :, :3])
    assert image.metadata.icc == P3
    # A header whose masks and intent are alike says the same, byte for byte.
    assert encode_image(image, "BMP") == data
    for cut in (1, len(P3) - 1):
        with pytest.raises(ImageError, match="cut short"):
            decode_image(data[:-cut], "x.bmp")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_pillow_reads_what_has_a_profile(channels, alpha):
    image = Image(
        PLANES[:, :, :channels], PLANES[:, :, 3] if alpha else None, Metadata(icc=P3, dpi=(300, 150))
    )
    data = encode_image(image, "BMP")
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert picture.mode == ("RGBA" if alpha else {1: "L", 3: "RGB"}[channels])
        shown = np.asarray(picture).reshape(9, 14, -1)
    np.testing.assert_array_equal(shown[..., :channels], image.pixels)
    again = decode_image(data, "x.bmp")
    assert again.metadata.icc == P3
    assert again.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)


def test_a_profile_in_another_file_is_not_looked_for():
    image = decode_image(with_v5_header(b"c:\\profiles\\mine.icc\0", b"LINK"), "x.bmp")
    assert image.metadata.icc is None
    assert image.metadata.notes == ("a colour profile in another file is not looked for",)
    assert decode_image(with_v5_header(b"", b"sRGB"), "x.bmp").metadata.notes == ()


def test_more_than_a_header_can_say_is_refused(monkeypatch):
    image = Image(PLANES[:, :, :3])
    monkeypatch.setattr(bmp, "_LARGEST", len(encode_image(image, "BMP")) - 1)
    with pytest.raises(ImageError, match="no more than 4 GiB"):
        encode_image(image, "BMP")


def test_limits():
    data = pillow_bmp(PillowImage.fromarray(PLANES[:, :, :3]))
    with pytest.raises(ImageError, match="14×9 pixels, the limit is 125"):
        decode_image(data, "x.bmp", max_pixels=125)
    with pytest.raises(ImageError, match="8 bits"):
        encode_image(Image(np.zeros((2, 2, 3), np.uint16)), "BMP")


def test_nonsense_resolution_is_left_out():
    data = bytearray(pillow_bmp(PillowImage.fromarray(PLANES[:, :, :3])))
    data[38:46] = b"\xff\xff\xff\xff\1\0\0\0"
    image = decode_image(bytes(data), "x.bmp")
    assert image.metadata.dpi is None
    np.testing.assert_array_equal(decode_image(encode_image(image), "x.bmp").pixels, image.pixels)
