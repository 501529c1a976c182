"""AVIF: pixels and metadata against Pillow and imagecodecs, damage, and what is refused."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from pictures import P3, XMP, check_damage, smooth
from PIL import Image as PillowImage

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image
from pipcli.images.colour import colours_of, problem_of, profile_of_codes


def opened(data: bytes) -> PillowImage.Image:
    picture = PillowImage.open(io.BytesIO(data))
    picture.load()
    return picture


def exif(orientation: int = 1) -> bytes:
    block = PillowImage.Exif()
    block[271] = "a maker"
    block[274] = orientation
    return block.tobytes()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_what_is_without_loss_comes_back_exactly(channels, alpha, bits):
    planes = smooth("uint8" if bits == 8 else "uint16", channels + alpha)
    if bits > 8:
        planes = np.rint(np.rint(planes / 65535 * (2**bits - 1)) * (65535 / (2**bits - 1))).astype(np.uint16)
    image = Image(
        planes[:, :, :channels],
        planes[:, :, channels] if alpha else None,
        Metadata("AVIF", icc=P3, xmp=XMP, depth=bits if bits > 8 else None),
    )
    data = encode_image(image)
    again = decode_image(data, "x.avif")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)
    assert again.metadata.depth == (bits if bits > 8 else None)
    raw = imagecodecs.avif_decode(data).reshape(40, 56, channels + alpha)
    expected = planes if bits == 8 else np.rint(planes / 65535 * (2**bits - 1))
    np.testing.assert_array_equal(raw, expected)


def test_metadata_is_what_pillow_reads():
    image = Image(smooth("uint16", 3), metadata=Metadata("PNG", icc=P3, exif=exif()[6:], xmp=XMP))
    picture = opened(encode_image(image, "AVIF"))
    assert picture.info["icc_profile"] == P3
    assert picture.info["xmp"] == XMP
    assert picture.getexif()[271] == "a maker"
    np.testing.assert_allclose(np.asarray(picture), image.pixels / 257, atol=12)
    again = decode_image(encode_image(image, "AVIF"), "x.avif").metadata
    assert (again.icc, again.xmp, again.exif) == (P3, XMP, image.metadata.exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation):
    out = io.BytesIO()
    picture = PillowImage.fromarray(smooth("uint8", 3))
    picture.save(out, "AVIF", exif=exif(orientation), icc_profile=P3, xmp=XMP, quality=90)
    image = decode_image(out.getvalue(), "x.avif")
    upright = np.asarray(PillowImage.open(out))
    transpose = {
        2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    expected = transpose.get(orientation, lambda a: a)(upright)
    assert np.abs(image.pixels.astype(int) - expected).max() <= 2  # two decoders' rounding of chroma
    again = opened(encode_image(image))
    assert again.getexif().get(274, 1) == 1
    assert again.size == image.pixels.shape[1::-1]
    assert (image.metadata.icc, image.metadata.xmp) == (P3, XMP)


def test_lossy_files_stay_near_and_keep_their_subsampling():
    for subsampling in ("4:2:0", "4:4:4"):
        out = io.BytesIO()
        PillowImage.fromarray(smooth("uint8", 3)).save(out, "AVIF", quality=80, subsampling=subsampling)
        image = decode_image(out.getvalue(), "x.avif")
        assert not image.metadata.lossless
        again = encode_image(image)
        assert (b"av1C\x81\x00\x0c" in again) == (subsampling == "4:2:0")
        assert np.abs(np.asarray(opened(again)).astype(int) - image.pixels).mean() < 8


def recoded(primaries: int, transfer: int) -> bytes:
    data = bytes(imagecodecs.avif_encode(smooth("uint8", 3), level=100))
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_colours_given_as_numbers_become_a_profile():
    image = decode_image(recoded(12, 13), "x.avif")
    assert problem_of(image.metadata.icc, 3) is None
    found = colours_of(image.metadata.icc, 3).to_srgb(np.array([[[1.0, 0.0, 0.0]]], np.float32))
    np.testing.assert_allclose(found, [[[1.0930, -0.2267, -0.1501]]], atol=0.004)
    assert decode_image(recoded(1, 13), "x.avif").metadata.icc is None
    plain = encode_image(Image(smooth("uint8", 3), metadata=Metadata("AVIF")))
    assert plain[plain.index(b"colrnclx") + 8 :][:4] == b"\0\x01\0\x0d"


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused(transfer, name):
    with pytest.raises(ImageError, match=rf"^x\.avif: is an AVIF that is of high dynamic range \({name}\)"):
        decode_image(recoded(9, transfer), "x.avif")


def test_high_dynamic_range_is_refused_beside_a_profile_too():
    data = encode_image(Image(smooth("uint8", 3), metadata=Metadata("AVIF", icc=profile_of_codes(12, 13))))
    place = data.index(b"colrnclx") + 8
    data = data[:place] + bytes([0, 9, 0, 16]) + data[place + 4 :]
    with pytest.raises(ImageError, match=r"^x\.avif: is an AVIF that is of high dynamic range \(PQ\)"):
        decode_image(data, "x.avif")


@pytest.mark.parametrize("alpha", [False, True])
def test_grey_has_the_quality_that_is_asked_for(alpha):
    grey = smooth("uint8", 1)
    grey = np.clip(grey + np.random.default_rng(2).normal(0, 12, grey.shape), 0, 255).astype(np.uint8)
    cover = np.ascontiguousarray(grey[::-1, :, 0]) if alpha else None
    sizes = []
    for quality in (100, 90, 40):
        encoded = encode_image(Image(grey, cover, Metadata("AVIF", quality=quality)))
        again = decode_image(encoded, "x.avif")
        assert again.channels == 1
        assert (again.alpha is None) is not alpha
        assert np.abs(again.pixels.astype(int) - grey).mean() < (1 if quality > 50 else 10)
        sizes.append(len(encoded))
    assert sizes[0] > sizes[1] > sizes[2]
    untold = decode_image(encode_image(Image(grey, cover, Metadata("AVIF"))), "x.avif")
    np.testing.assert_array_equal(decode_image(encode_image(untold), "x.avif").pixels, grey)


def test_sequences_are_refused():
    frames = np.stack([smooth("uint8", 3)] * 3)
    data = imagecodecs.avif_encode(frames, level=90, speed=10)
    with pytest.raises(ImageError, match=r"^x\.avif: is an animated AVIF, which is not supported$"):
        decode_image(bytes(data), "x.avif")


def test_what_it_cannot_hold_is_refused():
    with pytest.raises(ImageError, match="floating-point"):
        encode_image(Image(np.zeros((2, 2, 3), np.float32)), "AVIF")


def test_truncations_and_damage_are_refused_or_read_whole(capfd):
    image = Image(smooth("uint8", 3)[:12, :16], metadata=Metadata("AVIF", icc=P3, xmp=XMP))
    data = encode_image(image)
    check_damage(data, "x.avif", range(16, len(data) - len(XMP) - 8), capfd)


def test_size_is_checked_before_decoding():
    data = encode_image(Image(smooth("uint8", 3), metadata=Metadata("AVIF")))
    with pytest.raises(ImageError, match="56×40 pixels, the limit is 2239"):
        decode_image(data, "x.avif", max_pixels=2239)
    at = data.index(b"ispe") + 8
    bomb = data[:at] + struct.pack(">II", 10**6, 10**6) + data[at + 8 :]
    with pytest.raises(ImageError, match="1000000×1000000 pixels"):
        decode_image(bomb, "x.avif")
