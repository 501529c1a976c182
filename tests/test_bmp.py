"""BMP against Pillow, which decodes it, and against rows made by hand."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.errors import ImageError
from pipcli.images import Image, decode_image, encode_image

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
    assert image.metadata.notes == (("palette image read as RGB",) if mode == "P" else ())


def test_every_truncation_is_refused():
    data = pillow_bmp(PillowImage.fromarray(PLANES[:, :, :3]))
    for length in range(2, len(data) - 2):  # the last two bytes only fill the row
        with pytest.raises(ImageError, match=r"^x\.bmp: [^\n]+$"):
            decode_image(data[:length], "x.bmp")


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
