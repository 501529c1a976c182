"""EXIF and XMP of upright pixels, against Pillow's own reading."""

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from pipcli.images.exif import exif_orientation, turn_upright, upright_exif, upright_xmp, xmp_of_turned


def block(orientation: int, order: str) -> bytes:
    exif = PillowImage.Exif()
    exif.endian = order
    exif[271], exif[274] = "a maker", orientation
    exif[0x8769] = {0xA002: 4000, 0xA003: 3000, 36867: "2024:05:06 07:08:09"}
    return exif.tobytes()[6:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_upright_and_sides_as_they_are(orientation, order):
    exif = block(orientation, order)
    assert exif_orientation(exif) == orientation
    found = PillowImage.Exif()
    found.load(upright_exif(exif))
    assert (found[271], found[274]) == ("a maker", 1)
    sides = found.get_ifd(0x8769)
    assert (sides[0xA002], sides[0xA003]) == ((4000, 3000) if orientation < 5 else (3000, 4000))
    assert len(upright_exif(exif)) == len(exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    picture = PillowImage.fromarray(pixels)
    picture.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turn_upright(pixels, orientation), expected)


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"XX*\0\x08\0\0\0", b"MM\0*\0\0\0\xff", block(6, "<")[:30]])
def test_damaged_blocks_are_left_alone(exif):
    assert exif_orientation(exif) in (1, 6)
    assert len(upright_exif(exif)) == len(exif)


def test_an_orientation_that_xmp_alone_states_stays_for_those_who_go_by_it():
    packet = b'<rdf:Description tiff:Orientation="6"/>'
    assert xmp_of_turned(packet, 1) == packet
    assert xmp_of_turned(packet, 6) == packet.replace(b"6", b"1")
    assert xmp_of_turned(None, 6) is None


def test_xmp_of_a_turned_picture_contradicts_nothing():
    packet = (
        b'<rdf:Description tiff:Orientation="6" exif:PixelXDimension="40" exif:PixelYDimension="3000">'
        b"<tiff:ImageWidth>40</tiff:ImageWidth><tiff:ImageLength>3000</tiff:ImageLength>"
    )
    assert upright_xmp(packet, 6) == (
        b'<rdf:Description tiff:Orientation="1" exif:PixelXDimension="3000" exif:PixelYDimension="40">'
        b"<tiff:ImageWidth>3000</tiff:ImageWidth><tiff:ImageLength>40</tiff:ImageLength>"
    )
    assert upright_xmp(packet, 3) == packet.replace(b'"6"', b'"1"')
    assert (
        upright_xmp(b"<tiff:Orientation> 8 </tiff:Orientation>")
        == b"<tiff:Orientation> 1 </tiff:Orientation>"
    )
