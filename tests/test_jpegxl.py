"""JPEG XL: pixels against imagecodecs, metadata, damage, and what is refused."""

import base64

import imagecodecs
import numpy as np
import pytest
from pictures import P3, XMP, check_damage, smooth

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image
from pipcli.images.boxes import box
from pipcli.images.colour import SRGB_PRIMARIES, profile_of

EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_what_is_without_loss_comes_back_exactly(dtype, channels, alpha):
    planes = smooth(dtype, channels + alpha)
    image = Image(
        planes[:, :, :channels],
        planes[:, :, channels] if alpha else None,
        Metadata("JPEG XL", xmp=XMP, exif=EXIF),
    )
    data = encode_image(image)
    again = decode_image(data, "x.jxl")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.pixels.dtype == dtype
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)
    assert again.metadata == image.metadata
    np.testing.assert_array_equal(imagecodecs.jpegxl_decode(data).reshape(planes.shape), planes)


@pytest.mark.parametrize("bits", [10, 12])
def test_10_and_12_bits_are_stretched_and_written_back(bits):
    samples = (np.arange(40 * 56 * 3).reshape(40, 56, 3) * 7 % 2**bits).astype(np.uint16)
    data = bytes(imagecodecs.jpegxl_encode(samples, lossless=True, bitspersample=bits))
    image = decode_image(data, "x.jxl")
    np.testing.assert_array_equal(image.pixels, np.rint(samples / (2**bits - 1) * 65535))
    if image.metadata.icc is None:
        np.testing.assert_array_equal(imagecodecs.jpegxl_decode(encode_image(image)), samples)


def test_lossy_files_are_written_lossy_and_near():
    data = bytes(imagecodecs.jpegxl_encode(smooth("uint8", 3), level=80))
    image = decode_image(data, "x.jxl")
    assert not image.metadata.lossless
    np.testing.assert_array_equal(image.pixels, imagecodecs.jpegxl_decode(data))
    again = imagecodecs.jpegxl_decode(encode_image(image)).astype(int)
    assert 0 < np.abs(again - image.pixels).mean() < 3


def test_linear_light_has_its_profile_and_is_written_as_such():
    planes = smooth("float32", 3) * 3
    data = bytes(imagecodecs.jpegxl_encode(planes, lossless=True))  # which declares floats linear
    image = decode_image(data, "x.jxl")
    assert image.metadata.icc == profile_of(SRGB_PRIMARIES, 1.0)
    assert image.scale == pytest.approx((0, np.quantile(planes, 0.999)))
    again = decode_image(encode_image(image), "x.jxl")
    np.testing.assert_array_equal(again.pixels, planes)
    assert again.metadata.icc == image.metadata.icc
    srgb = decode_image(encode_image(Image(smooth("float32", 3), metadata=Metadata("JPEG XL"))), "x.jxl")
    assert srgb.metadata.icc is None


def test_the_orientation_of_the_codestream_is_applied_once():
    """A file of 20×12 pixels that cjxl 0.7 made of a PNG with orientation 6, and what it made it of."""
    data = base64.b64decode(
        "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAABCanhsY/8KWAAmWCCguCQIAgEAqABLGJOOg4MJChGK"
        "RsbG3JCAAzgO8CcBtpEIQkhCCEIIQkRCBKPB5GCQUDg="
    )
    y, x = np.mgrid[:12, :20]
    made_of = np.stack([(y + (c + 1) * x) % 251 for c in range(3)], axis=2) * 261 >> 8
    image = decode_image(data, "x.jxl")
    np.testing.assert_array_equal(image.pixels, np.rot90(made_of, -1))
    again = decode_image(encode_image(image), "x.jxl")
    np.testing.assert_array_equal(again.pixels, image.pixels)


def test_compressed_metadata_is_read():
    data = encode_image(Image(smooth("uint8", 3), metadata=Metadata("JPEG XL")))
    packed = box(b"brob", b"xml " + bytes(imagecodecs.brotli_encode(XMP)))
    assert decode_image(data + packed, "x.jxl").metadata.xmp == XMP
    with pytest.raises(ImageError, match="its metadata"):
        decode_image(data + box(b"brob", b"xml \xff\xff\xff"), "x.jxl")


def test_other_colours_than_srgb_are_refused():
    image = Image(smooth("uint8", 3), metadata=Metadata("JPEG XL", icc=P3))
    with pytest.raises(ImageError, match="JPEG XL is written in sRGB only"):
        encode_image(image)


def test_animations_are_refused():
    data = imagecodecs.jpegxl_encode(np.stack([smooth("uint8", 3)] * 3), lossless=True)
    with pytest.raises(ImageError, match=r"^x\.jxl: is an animated JPEG XL, which is not supported$"):
        decode_image(bytes(data), "x.jxl")


def test_truncations_and_damage_are_refused_or_read_whole(capfd):
    data = encode_image(Image(smooth("uint8", 3)[:12, :16], metadata=Metadata("JPEG XL")))
    check_damage(data, "x.jxl", range(12, len(data)), capfd)


def test_size_is_checked_before_decoding():
    data = encode_image(Image(smooth("uint8", 3), metadata=Metadata("JPEG XL")))
    with pytest.raises(ImageError, match="56×40 pixels, the limit is 2239"):
        decode_image(data, "x.jxl", max_pixels=2239)
