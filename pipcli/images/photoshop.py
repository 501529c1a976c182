"""IPTC and Photoshop's image resources, which JPEG and TIFF hold (Adobe Photoshop File Formats, 2019)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SIGNATURE = b"8BIM"
_SIGNATURES = (_SIGNATURE, b"MeSa", b"AgHg", b"PHUT", b"DCSR")
"""Of other programs of Adobe's too, whose resources may stand before the record."""
_IPTC = 0x0404
_THUMBNAILS = (0x0409, 0x040C)
_ELSEWHERE = (_IPTC, 0x0425, *_THUMBNAILS, 0x03ED, 0x040F, 0x0422, 0x0423, 0x0424)
"""What a picture without its resources does not miss, or has in another place: IPTC and its checksum,
thumbnails, resolution, profile, EXIF, XMP."""
_PATHS = (*range(2000, 2998), 2999)
"""Paths, and the name of the one that clips the picture."""


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC record among image resources."""
    for signature, number, _, payload in _resources(resources):
        if (signature, number) == (_SIGNATURE, _IPTC) and payload:
            return payload
    return None


def resources_of(iptc: bytes) -> bytes:
    """Image resources that hold an IPTC record and nothing else."""
    return _resource(_SIGNATURE, _IPTC, b"\0\0", iptc)


def missed_of(resources: bytes) -> str | None:
    """What a user may miss of image resources that are not written; None for nothing."""
    numbers = {number for _, number, _, _ in _resources(resources)}
    if numbers.intersection(_PATHS):
        return "clipping paths"
    return "Photoshop's resources" if numbers.difference(_ELSEWHERE) else None


def without_thumbnails(resources: bytes) -> bytes:
    """The resources without the pictures of the pixels before they were restored.

    What cannot be understood to its end is kept as it is.
    """
    parts = list(_resources(resources))
    if sum(len(_resource(*part)) for part in parts) < len(resources.rstrip(b"\0")):
        return resources
    return b"".join(_resource(*part) for part in parts if part[1] not in _THUMBNAILS)


def _resources(data: bytes) -> Iterator[tuple[bytes, int, bytes, bytes]]:
    """(signature, number, name with its length, payload) of each resource."""
    place = 0
    while (signature := data[place : place + 4]) in _SIGNATURES and place + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, place + 4)
        after_name = place + 6 + (data[place + 6] + 2) // 2 * 2
        if after_name + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, after_name)
        payload = data[after_name + 4 : after_name + 4 + size]
        if len(payload) < size:
            return
        yield signature, number, data[place + 6 : after_name], payload
        place = after_name + 4 + size + size % 2


def _resource(signature: bytes, number: int, name: bytes, payload: bytes) -> bytes:
    head = signature + struct.pack(">H", number) + name + struct.pack(">I", len(payload))
    return head + payload + bytes(len(payload) % 2)
