"""Boxes: length, kind, content. JPEG 2000, JPEG XL and AVIF are made of them (ISO/IEC 14496-12, 4.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipcli.errors import ImageError


class Box(NamedTuple):
    """One box of a file: its kind, and where its content begins and ends."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int, end: int, format_name: str) -> Iterator[Box]:
    """The boxes between two offsets of a file, one after the other.

    Raises:
        ImageError: one reaches beyond the end; format_name stands in the message.
    """
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = end if size == 0 else start + size
        if stop < content or stop > end:
            raise ImageError(f"{format_name} is cut short")
        yield Box(kind, content, stop)
        start = stop


def box(kind: bytes, content: bytes) -> bytes:
    """A box as it stands in a file; content below 4 GiB."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, version: int, flags: int, content: bytes) -> bytes:
    """A box whose content begins with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags) + content)
