"""JPEG 2000: pixels and metadata against Pillow, damage, and what is refused."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from pictures import P3, XMP, check_damage, smooth
from PIL import Image as PillowImage
from PIL import ImageCms

from pipcli.errors import ImageError
from pipcli.images import Image, Metadata, decode_image, encode_image, write_image


def pillow_jp2(picture: PillowImage.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG2000", **options)
    return out.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_what_is_without_loss_comes_back_exactly(dtype, channels, alpha):
    planes = smooth(dtype, channels + alpha)
    image = Image(
        planes[:, :, :channels],
        planes[:, :, channels] if alpha else None,
        Metadata("JPEG 2000", icc=P3 if channels == 3 else None, xmp=XMP, dpi=(300, 150)),
    )
    data = encode_image(image)
    again = decode_image(data, "x.jp2")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert (again.alpha is not None) == alpha
    if alpha:
        np.testing.assert_array_equal(again.alpha, image.alpha)
    assert (again.metadata.icc, again.metadata.xmp) == (image.metadata.icc, XMP)
    assert again.metadata.dpi == pytest.approx((300, 150), rel=1e-3)
    if channels == 1:  # of others imagecodecs converts the colours by the profile
        np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(data).reshape(planes.shape), planes)


def test_openjpeg_understands_the_profile():
    image = Image(smooth("uint8", 3), metadata=Metadata("PNG", icc=P3))
    expected = ImageCms.profileToProfile(
        PillowImage.fromarray(image.pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(P3)),
        ImageCms.createProfile("sRGB"),
    )
    converted = imagecodecs.jpeg2k_decode(encode_image(image, "JPEG 2000"))  # which converts to sRGB
    assert np.abs(converted.astype(int) - np.asarray(expected)).max() <= 2


def test_pillow_reads_pixels_and_resolution_and_alpha():
    planes = smooth("uint8", 4)
    image = Image(planes[:, :, :3], planes[:, :, 3], Metadata("PNG", icc=P3, dpi=(300, 300)))
    picture = PillowImage.open(io.BytesIO(encode_image(image, "JPEG 2000")))
    assert picture.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(picture), planes)
    assert picture.info["dpi"] == pytest.approx((300, 300), rel=1e-3)


def with_extra_channel(channels: int, container: str, said: bool) -> bytes:
    """A picture with a channel behind its colours that is 0 in its upper half, and no alpha.

    Args:
        said: whether the file says that it is none; else it says nothing.
    """
    planes = smooth("uint8", channels + 1)
    planes[:20, :, channels] = 0
    data = bytes(imagecodecs.jpeg2k_encode(planes, level=0, codecformat=container, reversible=True))
    if not said:
        assert b"cdef" not in data
        return data
    rows = [(i, 0, i + 1) for i in range(channels)] + [(channels, 65535, 65535)]
    cdef = struct.pack(f">{1 + 3 * len(rows)}H", len(rows), *(number for row in rows for number in row))
    at = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    content = data[at + 8 : at + size] + struct.pack(">I4s", 8 + len(cdef), b"cdef") + cdef
    return data[:at] + struct.pack(">I4s", 8 + len(content), b"jp2h") + content + data[at + size :]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("container", "said"), [("j2k", False), ("jp2", False), ("jp2", True)])
def test_a_channel_that_is_not_said_to_be_alpha_hides_nothing(channels, container, said):
    image = decode_image(with_extra_channel(channels, container, said), "x.jp2")
    assert image.metadata.notes == ("an extra channel that is not said to be alpha is carried through",)
    changed = image.restored(255 - image.filled().pixels)
    np.testing.assert_array_equal(changed.pixels, 255 - smooth("uint8", channels + 1)[:, :, :channels])

    again = decode_image(encode_image(changed), "x.jp2")
    np.testing.assert_array_equal(again.pixels, changed.pixels)
    np.testing.assert_array_equal(again.alpha, image.alpha)
    assert again.metadata.notes == image.metadata.notes
    with tifffile.TiffFile(io.BytesIO(encode_image(changed, "TIFF"))) as file:
        assert file.pages[0].extrasamples == (0,)  # unspecified
        np.testing.assert_array_equal(file.asarray()[..., channels], image.alpha)
    np.testing.assert_array_equal(decode_image(encode_image(changed, "PNG"), "x.png").pixels, changed.pixels)


def test_openjpeg_reads_a_channel_that_is_none_of_alpha():
    data = encode_image(decode_image(with_extra_channel(3, "jp2", said=False), "x.jp2"))
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(data)[:20, :, 3], 0)
    np.testing.assert_array_equal(
        np.asarray(PillowImage.open(io.BytesIO(data)))[..., :3], smooth("uint8", 4)[..., :3]
    )


def test_what_is_said_to_be_alpha_still_hides():
    planes = smooth("uint8", 4)
    planes[:20, :, 3] = 0
    image = decode_image(pillow_jp2(PillowImage.fromarray(planes)), "x.jp2")
    assert image.metadata.notes == ()
    changed = image.restored(255 - image.pixels)
    np.testing.assert_array_equal(changed.pixels[:20], planes[:20, :, :3])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillows_files_are_read(mode):
    picture = PillowImage.fromarray(smooth("uint8", 4)).convert(mode)
    image = decode_image(pillow_jp2(picture), "x.jp2")
    planes = np.asarray(picture).reshape(40, 56, -1)
    np.testing.assert_array_equal(image.pixels, planes[:, :, : image.channels])
    assert image.channels == (3 if mode.startswith("RGB") else 1)


@pytest.mark.parametrize("bits", [4, 10, 12])
def test_other_depths_are_stretched_and_those_above_8_written_back(bits):
    samples = (np.arange(40 * 56 * 3).reshape(40, 56, 3) * 7 % 2**bits).astype(
        np.uint8 if bits < 8 else np.uint16
    )
    data = bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="jp2", bitspersample=bits))
    image = decode_image(data, "x.jp2")
    peak = np.iinfo(image.pixels.dtype).max
    np.testing.assert_array_equal(image.pixels, np.rint(samples / (2**bits - 1) * peak))
    if bits > 8:
        np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(encode_image(image)), samples)
    else:
        assert image.metadata.notes == ("4 bits a channel read as 8",)


def test_lossy_files_are_written_lossy_and_near():
    picture = PillowImage.fromarray(smooth("uint8", 3))
    image = decode_image(pillow_jp2(picture, irreversible=True, quality_layers=[40]), "x.jp2")
    assert not image.metadata.lossless
    data = encode_image(image)
    assert len(data) < len(encode_image(Image(image.pixels, metadata=Metadata("JPEG 2000"))))
    difference = np.asarray(PillowImage.open(io.BytesIO(data))).astype(float) - image.pixels
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 45


@pytest.mark.parametrize("quality", [None, 40])
def test_transparency_costs_no_pixel_its_alpha(quality):
    planes = smooth("uint8", 4)
    planes[:20, :, 3] = 0
    image = Image(planes[:, :, :3], planes[:, :, 3], Metadata("JPEG 2000", lossless=False, quality=quality))
    np.testing.assert_array_equal(decode_image(encode_image(image), "x.jp2").alpha, image.alpha)


def test_bare_codestreams_stay_bare():
    data = bytes(imagecodecs.jpeg2k_encode(smooth("uint8", 3), level=0, codecformat="j2k", reversible=True))
    image = decode_image(data, "x.j2k")
    np.testing.assert_array_equal(image.pixels, smooth("uint8", 3))
    assert encode_image(image).startswith(b"\xff\x4f\xff\x51")


def test_exif_goes_in_and_out_and_turns_once():
    block = PillowImage.Exif()
    block[271], block[274] = "a maker", 6
    source = decode_image(pillow_jp2(PillowImage.fromarray(smooth("uint8", 3))), "x.jp2")
    sideways = Image(source.pixels, metadata=Metadata("JPEG 2000", exif=block.tobytes()[6:]))
    image = decode_image(encode_image(sideways), "x.jp2")
    np.testing.assert_array_equal(image.pixels, np.rot90(source.pixels, -1))
    again = decode_image(encode_image(image), "x.jp2")
    np.testing.assert_array_equal(again.pixels, image.pixels)
    exif = PillowImage.Exif()
    exif.load(again.metadata.exif)
    assert (exif[271], exif[274]) == ("a maker", 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"colr\1\0\0\0\0\0\x10", b"colr\1\0\0\0\0\0\x12"), "colours that are not supported"),
        ((b"\1\0\0\0\0\0\x10", b"\4\0\0\0\0\0\x10"), "colours that are not supported"),
        ((b"\xff\x51\0\x2f", b"\xff\x51\0\x2e"), "damaged|cut short|not supported"),
        ((b"jp2c", b"jp2d"), "it has no picture"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(change, reason):
    data = pillow_jp2(PillowImage.fromarray(smooth("uint8", 3)))
    assert change[0] in data
    with pytest.raises(ImageError, match=reason):
        decode_image(data.replace(*change, 1), "x.jp2")
    with pytest.raises(ImageError, match="floating-point"):
        encode_image(Image(np.zeros((2, 2, 3), np.float32)), "JPEG 2000")


def test_truncations_and_damage_are_refused_or_read_whole(capfd):
    data = encode_image(Image(smooth("uint8", 3)[:12, :16], metadata=Metadata("JPEG 2000", icc=P3)))
    check_damage(data, "x.jp2", range(12, len(data), 3), capfd)


def test_size_is_checked_before_decoding():
    data = encode_image(Image(smooth("uint8", 3), metadata=Metadata("JPEG 2000")))
    at = data.index(b"\xff\x51") + 6
    bomb = data[:at] + struct.pack(">II", 10**6, 10**6) + data[at + 8 :]
    with pytest.raises(ImageError, match="1000000×1000000 pixels"):
        decode_image(bomb, "x.jp2")


def test_further_boxes_stay_and_elsewhere_their_loss_is_said(tmp_path):
    boxes = {
        "georeference": (b"uuid", bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03") + b"II*\0"),
        "georeference ": (b"asoc", b"labels and http://www.opengis.net/gml/3.2 in boxes"),
        "unknown boxes": (b"uuid", bytes(16)),
        "XML": (b"xml ", b"<a/>"),
    }
    bare = pillow_jp2(PillowImage.fromarray(smooth("uint8", 3)))
    for label, (kind, content) in boxes.items():
        box = struct.pack(">I4s", 8 + len(content), kind) + content
        image = decode_image(bare + box, "x.jp2")
        assert box in encode_image(image)
        notes = write_image(image, tmp_path / "x.tif")
        assert notes == (f"left out on the way from JPEG 2000 to TIFF: {label.strip()}",)
    assert write_image(decode_image(bare, "x.jp2"), tmp_path / "x.tif") == ()
