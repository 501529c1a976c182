"""What codestreams say of a DICOM file's frames: bits a pixel, and whether compression lost something.

Of the latter (PS3.3, C.7.6.1.1.5) the transfer syntax alone does not tell: near-lossless JPEG-LS may allow an
error of 0, JPEG 2000 and HTJ2K may have integer wavelets. Where the latter were cut short to save room, the
headers do not tell either.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipcli.images.jpeg2000 import is_reversible, precision

_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
_JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", _NEAR_LOSSLESS})
_JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
_HTJ2K = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
_JPEG_START = b"\xff\xd8"
_FRAMES = frozenset({*range(0xFFC0, 0xFFD0), 0xFFF7}) - {0xFFC4, 0xFFC8, 0xFFCC}
"""SOF0 to SOF15 and SOF55; the markers between them begin tables and the like."""
_SCAN = 0xFFDA


@dataclass(frozen=True)
class Loss:
    """That compression lost something.

    Args:
        method: by DICOM's defined terms of LossyImageCompressionMethod.
        ratio: bytes of the pixels as the file would hold them raw over those that it holds.
    """

    method: str
    ratio: float


def loss_of(syntax: str, frames: Sequence[bytes], size: int) -> Loss | None:
    """What compression lost; None where it lost nothing that codestreams tell of.

    Args:
        syntax: UID of the transfer syntax.
        frames: the codestream of each frame.
        size: of all frames without compression, in bytes.
    """
    ratio = size / max(1, sum(map(len, frames)))
    if syntax in _JPEG:
        return Loss("ISO_10918_1", ratio)
    if syntax in _JPEG_LS:
        errors = [_largest_error(frame, int(syntax == _NEAR_LOSSLESS)) for frame in frames]
        return Loss("ISO_14495_1", ratio) if any(errors) else None
    if syntax in _JPEG_2000 | _HTJ2K and not all(map(is_reversible, frames)):
        return Loss("ISO_15444_15" if syntax in _HTJ2K else "ISO_15444_1", ratio)
    return None


def bits_of(stream: bytes) -> int | None:
    """Bits a pixel in a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream; None where its headers do not tell."""
    if not stream.startswith(_JPEG_START):
        return precision(stream)
    return next((content[0] for marker, content in _segments(stream) if marker in _FRAMES), None)


def _largest_error(stream: bytes, default: int) -> int:
    """By how much a JPEG-LS pixel may be off (NEAR; ISO 14495-1, C.2.3); default where no scan is found."""
    for marker, content in _segments(stream):
        at = 1 + 2 * content[0]  # behind the list of its components
        if marker == _SCAN and at < len(content):
            return content[at]
    return default


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content, never empty, of what stands before the pixels of a JPEG or JPEG-LS stream."""
    place = 2
    while place + 5 <= len(stream):
        marker, length = struct.unpack_from(">HH", stream, place)
        yield marker, stream[place + 4 : place + 2 + length] or b"\0"
        if marker == _SCAN:
            return
        place += 2 + length
