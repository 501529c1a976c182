"""Reading by content, and one clear line for each file that cannot be read."""

import os
import stat
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.errors import ImageError
from pipcli.images import FORMATS, Image, decode_image, encode_image, read_image, reading


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    PillowImage.new("RGB", (6, 4), (10, 20, 30)).save(path)
    return path


def test_content_counts_and_not_the_name(photo):
    misnamed = photo.rename(photo.with_name("photo.jpg"))
    image = read_image(misnamed)
    assert image.metadata.format == "PNG"
    assert image.pixels.shape == (4, 6, 3)
    assert image.pixels[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"just some text\n", "is no image of a known format"),
        (
            b"GIF89a" + bytes(20),
            "is a GIF, whose 256 colours cannot hold a restored picture: convert it to PNG first",
        ),
        (b"RIFF\4\0\0\0WAVE", "is no image of a known format"),
        (b"RIFF\x40\0\0\0WEBPVP8 ", "WebP is cut short"),
        (b"BM", "BMP is cut short"),
        (
            b"\0\0\0\x20ftypheic" + bytes(20),
            "is HEIC, whose decoders are not as free as this program: convert it to JPEG or PNG first",
        ),
        (b"\0\0\0\x20ftypisom" + bytes(20), "is a video file, which is not supported"),
        (b"\x89PNG\r\n\x1a\n", "PNG is cut short"),
        (b"\xff\xd8\xff", "JPEG is cut short"),
    ],
)
def test_one_line_names_the_file_and_the_reason(tmp_path, content, reason):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: {reason}"


def test_what_is_no_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"no\.png: cannot be read: No such file or directory"):
        read_image(tmp_path / "no.png")
    with pytest.raises(ImageError, match=r"cannot be read: Is a directory|is no regular file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"pipe\.png: is no regular file"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "a\0b.png")


def test_a_file_that_must_not_be_read_is_named(photo, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be read: Permission denied"):
        read_image(photo)


def test_a_message_is_one_line_whatever_the_name(tmp_path):
    path = tmp_path / "a\nb\x1b[31m.png"
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).isprintable()


def test_what_a_codec_says_becomes_one_line(photo, monkeypatch):
    def fail(*_):
        raise ImageError("damaged:\n  strip \x07\u200e1")

    talkative = replace(FORMATS[0], read=fail)
    monkeypatch.setattr(reading, "format_of_content", lambda _: talkative)
    with pytest.raises(ImageError) as caught:
        read_image(photo)
    assert str(caught.value) == f"{photo}: damaged: strip \\x07\\u200e1"


def test_the_limit_of_pixels_is_passed_on(photo):
    assert read_image(photo, max_pixels=24).width == 6
    with pytest.raises(ImageError, match=r"photo\.png: has 6×4 pixels, the limit is 23"):
        read_image(photo, max_pixels=23)


@pytest.mark.parametrize("format_name", ["PNG", "JPEG"])
def test_images_beyond_pillows_own_limit_give_no_warning(monkeypatch, format_name):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 4)
    data = encode_image(Image(np.zeros((8, 8, 1), np.uint8)), format_name)
    assert decode_image(data, "x").pixels.shape == (8, 8, 1)


def test_memory_that_does_not_suffice_is_said(photo, monkeypatch):
    def fail(*_):
        raise MemoryError

    greedy = replace(FORMATS[0], read=fail)
    monkeypatch.setattr(reading, "format_of_content", lambda _: greedy)
    with pytest.raises(ImageError, match=r"photo\.png: does not fit into memory"):
        read_image(photo)


def test_reading_leaves_the_file_alone(photo):
    before = photo.stat()
    read_image(photo)
    after = photo.stat()
    assert (before.st_mtime_ns, stat.S_IMODE(before.st_mode)) == (
        after.st_mtime_ns,
        stat.S_IMODE(after.st_mode),
    )
