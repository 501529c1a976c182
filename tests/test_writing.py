"""Writing: the suffix decides, and nothing is touched before all is encoded."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.errors import ImageError, OutputError, UsageError
from pipcli.images import Image, Metadata, encode_image, read_image, write_image

RED = Image(np.full((8, 8, 3), (200, 10, 10), np.uint8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.png", "PNG"),
        ("x.JPG", "JPEG"),
        ("x.jpeg", "JPEG"),
        ("x.Tif", "TIFF"),
        ("x.webp", "WEBP"),
        ("x.bmp", "BMP"),
        ("x", "PNG"),
    ],
)
def test_the_suffix_names_the_format(tmp_path, name, expected):
    write_image(RED, tmp_path / name)
    with PillowImage.open(tmp_path / name) as picture:
        assert picture.format == expected
        assert np.abs(np.asarray(picture).astype(int) - RED.pixels).max() < 4


def test_without_suffix_the_source_names_the_format(tmp_path):
    write_image(Image(RED.pixels, metadata=Metadata("JPEG")), tmp_path / "x")
    assert read_image(tmp_path / "x").metadata.format == "JPEG"


def test_metadata_crosses_formats_and_what_only_one_can_hold_stays_behind(tmp_path):
    exif = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0abc\0\0\0\0\0"
    metadata = Metadata("PNG", b"profile", exif, b"<x/>", (300, 300), ((b"tEXt", b"a\0b"),))
    write_image(Image(RED.pixels, metadata=metadata), tmp_path / "x.jpg")
    read = read_image(tmp_path / "x.jpg").metadata
    assert (read.icc, read.exif, read.xmp, read.dpi) == (b"profile", exif, b"<x/>", (300, 300))
    assert read.blocks == ()


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"x\.doc: its suffix is none that can be written: \.png"):
        write_image(RED, tmp_path / "x.doc")
    with pytest.raises(UsageError, match="unknown format 'doc': choose from PNG, JPEG, TIFF, WebP, BMP"):
        encode_image(RED, "doc")


def test_what_the_format_cannot_hold_touches_nothing(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"old")
    with pytest.raises(ImageError, match=r"x\.jpg: JPEG holds 8 bits"):
        write_image(Image(np.zeros((2, 2, 3), np.uint16)), tmp_path / "x.jpg")
    with pytest.raises(ImageError, match=r"y/x\.jpg"):
        write_image(Image(np.zeros((2, 2, 3), np.uint16)), tmp_path / "y" / "x.jpg")
    assert (tmp_path / "x.jpg").read_bytes() == b"old"
    assert not (tmp_path / "y").exists()


def test_what_cannot_be_written_names_the_path(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"file/x\.png: cannot be written"):
        write_image(RED, tmp_path / "file" / "x.png")
