"""WebP against Pillow: pixels, metadata, orientation, damage."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image

PLANES = np.random.default_rng(2).integers(0, 256, (17, 22, 4), dtype=np.uint8)


def pillow_webp(planes: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    PillowImage.fromarray(planes).save(out, "WEBP", **options)
    return out.getvalue()


def opened(data: bytes) -> PillowImage.Image:
    picture = PillowImage.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_pixels_are_those_of_pillow(lossless, alpha):
    data = pillow_webp(PLANES[:, :, : 3 + alpha], lossless=lossless, exact=True)
    image = decode_image(data, "x.webp")
    expected = np.asarray(opened(data))
    np.testing.assert_array_equal(image.pixels, expected[:, :, :3])
    assert (image.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(image.alpha, expected[:, :, 3])
    assert image.metadata.lossless == lossless


@pytest.mark.parametrize("alpha", [False, True])
def test_what_was_lossless_is_written_so(alpha):
    image = Image(PLANES[:, :, :3], PLANES[:, :, 3] if alpha else None, Metadata("WebP"))
    again = decode_image(encode_image(image), "x.webp")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)


def test_what_was_lossy_is_written_small():
    y, x = np.mgrid[:64, :64]
    smooth = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=2).astype(np.uint8)
    smooth += np.random.default_rng(0).integers(0, 3, smooth.shape, dtype=np.uint8)
    image = decode_image(pillow_webp(smooth, quality=90), "x.webp")
    lossy = encode_image(image)
    assert len(lossy) < len(pillow_webp(smooth, lossless=True)) / 2
    assert np.abs(np.asarray(opened(lossy)).astype(int) - image.pixels).mean() < 3


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_metadata_survives_and_orientation_is_applied_once(orientation):
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = "a maker", orientation
    source = pillow_webp(PLANES[:, :, :3], lossless=True, exif=exif, icc_profile=b"profile", xmp=b"<x/>")
    image = decode_image(source, "x.webp")
    expected = np.asarray(ImageOps.exif_transpose(opened(source)))
    np.testing.assert_array_equal(image.pixels, expected)
    again = opened(encode_image(image))
    np.testing.assert_array_equal(np.asarray(again), expected)
    assert (again.getexif()[0x010F], again.getexif()[0x0112]) == ("a maker", 1)
    assert again.info["icc_profile"] == b"profile"
    assert again.info["xmp"] == b"<x/>"


def test_grey_becomes_rgb():
    again = opened(encode_image(Image(PLANES[:, :, :1]), "WebP"))
    np.testing.assert_array_equal(np.asarray(again), np.repeat(PLANES[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("lossless", [False, True])
def test_every_truncation_is_refused(lossless):
    data = pillow_webp(PLANES, lossless=lossless, icc_profile=b"profile")
    for length in range(1, len(data)):
        with pytest.raises(ImageError, match=r"^x\.webp: [^\n]+$"):
            decode_image(data[:length], "x.webp")


def test_animation_is_refused():
    frames = [PillowImage.fromarray(PLANES[:, :, :3]), PillowImage.fromarray(PLANES[:, :, 1:])]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animated WebP"):
        decode_image(out.getvalue(), "x.webp")


@pytest.mark.parametrize("lossless", [False, True])
def test_size_is_checked_before_decoding(lossless):
    data = pillow_webp(PLANES[:, :, :3], lossless=lossless)
    with pytest.raises(ImageError, match="22×17 pixels, the limit is 373"):
        decode_image(data, "x.webp", max_pixels=17 * 22 - 1)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [(np.zeros((2, 2, 3), np.uint16), "8 bits"), (np.zeros((1, 16384, 3), np.uint8), "16383")],
)
def test_what_webp_cannot_hold_is_refused(pixels, reason):
    with pytest.raises(ImageError, match=reason):
        encode_image(Image(pixels), "WebP")


@pytest.mark.parametrize("lossless", [False, True])
def test_grey_pictures_are_held_as_grey(lossless):
    grey = Image(PLANES[:, :, :1], metadata=Metadata("WebP", lossless=lossless))
    image = decode_image(encode_image(grey), "x.webp")
    assert image.channels == 1
    assert opened(encode_image(image)).mode == "RGB"


def test_profiles_of_grey_are_not_put_to_rgb():
    icc = bytes(imagecodecs.cms_profile("gray", whitepoint=(0.3457, 0.3585, 1.0), gamma=1.0))
    with pytest.raises(ImageError, match="WebP knows no grey, and the image has a profile of grey"):
        encode_image(Image(PLANES[:, :, :1], metadata=Metadata(icc=icc)), "WebP")
