"""Folders of tags: read, turned to another byte order, written; read again by Pillow and tifffile."""

import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.images.folders import (
    EXIF_FOLDER,
    GPS_FOLDER,
    Folder,
    Tag,
    exif_block,
    folder_bytes,
    in_order,
    read_exif,
    read_folder,
)


def sample(order: str) -> Folder:
    """A folder with values of every size, within and beside their entries."""

    def tag(code: int, kind: int, letters: str, *values: float) -> Tag:
        count = len(values) // (2 if kind in (5, 10) else 1)
        return Tag(code, kind, count, struct.pack(order + letters, *values))

    exif = Folder(order, (tag(33434, 5, "2I", 1, 250), tag(34855, 3, "H", 400), Tag(37500, 7, 5, b"notes")))
    gps = Folder(order, (Tag(1, 2, 2, b"N\0"), tag(2, 5, "6I", 52, 1, 31, 1, 25, 2)))
    tags = (
        Tag(271, 2, 8, b"a maker\0"),
        tag(274, 3, "H", 6),
        tag(65000, 12, "2d", 0.5, -2.0),
        tag(65001, 9, "i", -7),
    )
    return Folder(order, tags, ((EXIF_FOLDER, exif), (GPS_FOLDER, gps)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_pillow_reads_what_is_written(order):
    found = PillowImage.Exif()
    found.load(exif_block(sample(order)))
    assert (found[271], found[274], found[65001]) == ("a maker", 6, -7)
    assert tuple(found[65000]) == (0.5, -2.0)
    camera, place = found.get_ifd(EXIF_FOLDER), found.get_ifd(GPS_FOLDER)
    assert (float(camera[33434]), camera[34855], camera[37500]) == (0.004, 400, b"notes")
    assert [float(number) for number in place[2]] == [52.0, 31.0, 12.5]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_what_is_written_is_read_again(order, big):
    data = bytes(100) + folder_bytes(sample(order), 100, big)
    assert read_folder(data, 100, order, big) == sample(order)


def test_the_other_byte_order_says_the_same():
    turned = in_order(sample("<"), ">")
    assert turned == sample(">")
    assert in_order(turned, "<") == sample("<")
    assert in_order(turned, ">") is turned


def test_numbers_are_those_of_the_kind():
    assert sample("<").tags[1].numbers("<") == (6,)
    assert sample(">").inner[0][1].tags[0].numbers(">") == (1, 250)
    assert sample("<").tags[0].numbers("<") == b"a maker\0"


def test_only_keeps_tags_and_all_inner_folders():
    kept = sample("<").only(frozenset({274}))
    assert [tag.code for tag in kept.tags] == [274]
    assert kept.inner == sample("<").inner


def test_damage_is_left_out_and_costs_no_memory():
    block = exif_block(sample("<"))
    for length in range(len(block)):
        read_exif(block[:length])
    rng = np.random.default_rng(6)
    for _ in range(500):
        damaged = bytearray(block)
        for place in rng.integers(8, len(block), 3):
            damaged[place] = rng.integers(256)
        read_exif(bytes(damaged))
    assert read_exif(b"no block") is None
    # A thousand tags that all name the same 64 KiB.
    entries = b"".join(struct.pack("<HHII", code, 7, 65536, 20000) for code in range(1000, 2000))
    hostile = struct.pack("<H", 1000) + entries + bytes(4)
    hostile = bytes(8) + hostile + bytes(100_000)
    folder = read_folder(hostile, 8, "<")
    assert sum(len(tag.values) for tag in folder.tags) <= len(hostile)


def test_folders_that_hold_themselves_end():
    loop = struct.pack("<H", 1) + struct.pack("<HHII", EXIF_FOLDER, 4, 1, 8) + bytes(4)
    assert read_folder(bytes(8) + loop, 8, "<").tags == ()
