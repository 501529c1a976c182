"""IPTC among Photoshop's image resources, against Pillow."""

import io
import struct

from PIL import Image as PillowImage
from PIL import IptcImagePlugin

from pipcli.images.photoshop import iptc_of, missed_of, resources_of, without_thumbnails

RECORD = b"\x1c\x02\x05\x00\x05title"


def resource(number: int, payload: bytes, name: bytes = b"\0\0", signature: bytes = b"8BIM") -> bytes:
    head = signature + struct.pack(">H", number) + name + struct.pack(">I", len(payload))
    return head + payload + bytes(len(payload) % 2)


def test_the_record_is_found():
    resources = resource(0x03ED, b"abc", b"\3xyz") + resource(0x0404, RECORD) + resource(0x040C, b"picture")
    assert iptc_of(resources) == RECORD
    assert iptc_of(b"") is None
    assert iptc_of(resource(0x03ED, b"abc")) is None


def test_pillow_reads_a_record_that_is_wrapped():
    out = io.BytesIO()
    PillowImage.new("L", (8, 8)).save(out, "JPEG")
    payload = b"Photoshop 3.0\0" + resources_of(RECORD)
    segment = b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
    picture = PillowImage.open(io.BytesIO(out.getvalue()[:2] + segment + out.getvalue()[2:]))
    assert IptcImagePlugin.getiptcinfo(picture) == {(2, 5): b"title"}


def test_thumbnails_go_and_the_rest_stays():
    kept = resource(0x03ED, b"abc", b"\3xyz") + resource(0x0404, RECORD)
    for number in (0x0409, 0x040C):
        assert without_thumbnails(kept + resource(number, b"picture")) == kept
    assert without_thumbnails(kept) == kept
    assert without_thumbnails(kept + b"\0\0\0") == kept


def test_resources_of_other_programs_stay_and_hide_nothing():
    other = resource(0x1B6C, b"slices", signature=b"MeSa")
    kept = other + resource(0x0404, RECORD)
    assert iptc_of(kept) == RECORD
    assert without_thumbnails(other + resource(0x040C, b"picture") + kept[len(other) :]) == kept
    assert iptc_of(resource(0x0404, RECORD, signature=b"PHUT")) is None


def test_what_is_not_understood_to_its_end_stays():
    odd = resource(0x040C, b"picture") + b"8BIM\4"
    assert without_thumbnails(odd) == odd
    assert without_thumbnails(b"something else") == b"something else"
    cut = resource(0x0404, RECORD)[:-3]
    assert iptc_of(cut) is None
    assert without_thumbnails(cut) == cut


def test_what_may_be_missed_is_named():
    plain = resource(0x03ED, b"abc") + resource(0x0404, RECORD) + resource(0x040C, b"picture")
    assert missed_of(plain) is None
    assert missed_of(plain + resource(0x03F3, b"flags")) == "Photoshop's resources"
    assert missed_of(plain + resource(0x03F3, b"flags") + resource(2000, b"path")) == "clipping paths"
