"""Boxes of files in which they follow and hold each other."""

import struct

import pytest

from pipcli.errors import ImageError
from pipcli.images.boxes import Box, box, boxes, full_box


def test_boxes_follow_each_other():
    data = box(b"ftyp", b"abcd") + box(b"free", b"") + full_box(b"meta", 1, 2, b"x")
    found = list(boxes(data, 0, len(data), "AVIF"))
    assert found == [Box(b"ftyp", 8, 12), Box(b"free", 20, 20), Box(b"meta", 28, 33)]
    assert data[28:33] == b"\1\0\0\2x"


def test_long_boxes_and_the_last_one_without_length():
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 3) + b"abc"
    last = struct.pack(">I4s", 0, b"jp2c") + b"rest of it"
    data = long + last
    contents = [(each.kind, data[each.start : each.end]) for each in boxes(data, 0, len(data), "JPEG 2000")]
    assert contents == [(b"mdat", b"abc"), (b"jp2c", b"rest of it")]


@pytest.mark.parametrize(
    "data",
    [
        box(b"ftyp", b"abcd")[:-1],
        struct.pack(">I4s", 7, b"ftyp"),
        struct.pack(">I4sQ", 1, b"mdat", 2**63) + b"abc",
        struct.pack(">I4sQ", 1, b"mdat", 15),
    ],
)
def test_boxes_that_reach_beyond_the_end_are_refused(data):
    with pytest.raises(ImageError, match=r"^AVIF is cut short$"):
        list(boxes(data, 0, len(data), "AVIF"))


def test_a_few_bytes_behind_the_last_box_are_left_alone():
    data = box(b"free", b"abc") + b"\0\0\0"
    assert len(list(boxes(data, 0, len(data), "AVIF"))) == 1
