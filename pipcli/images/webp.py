"""WebP (RFC 9649): lossy and lossless, with or without alpha, 8 bits, always RGB.

What was stored without loss is written without loss. A picture whose three channels are one and the same is
grey, which the format cannot say; it is held as such, so that it stays grey.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.exif import EXIF_PREFIX, exif_orientation, turn_upright, upright_exif, xmp_of_turned
from pipcli.images.image import Image, Metadata
from pipcli.images.limits import check_size

QUALITY = 95
"""Of lossy files. WebP does not record the quality that a file was written at."""

_LONGEST_SIDE = 16383
_LOSSY_SPREAD = 1
"""Steps by which the channels of grey may differ after the way through luma and chroma."""


def is_webp(head: bytes) -> bool:
    """Whether a file that starts so is WebP; RIFF alone is also WAV and AVI."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read_webp(data: bytes, max_pixels: int) -> Image:
    """The image in a whole WebP file, upright.

    Raises:
        ImageError: damaged, cut short, animated, or larger than max_pixels; the file's name is not in the
            message, the caller has it.
    """
    import imagecodecs

    chunks = dict(_chunks(data))
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise ImageError("is an animated WebP, which is not supported")
    width, height = _size(chunks)
    check_size(width, height, max_pixels)
    try:
        planes = imagecodecs.webp_decode(data)
    except (imagecodecs.WebpError, ValueError) as error:
        raise ImageError(f"damaged WebP: {error}") from error
    if planes.shape[:2] != (height, width) or planes.shape[2] not in (3, 4):
        raise ImageError("damaged WebP: the pixels do not match the header")

    exif = chunks.get(b"EXIF")
    if exif is not None:
        exif = exif.removeprefix(EXIF_PREFIX)
    xmp = chunks.get(b"XMP ")
    orientation = exif_orientation(exif)
    planes = turn_upright(planes, orientation)
    spread = np.ptp(planes[:, :, :3], axis=2).max()
    # A profile in a WebP is one of RGB, which grey pixels of other formats could not have.
    grey = b"ICCP" not in chunks and spread <= (0 if b"VP8L" in chunks else _LOSSY_SPREAD)
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, 1:2] if grey else planes[:, :, :3]),
        alpha=np.ascontiguousarray(planes[:, :, 3]) if planes.shape[2] == 4 else None,
        metadata=Metadata(
            "WebP",
            icc=chunks.get(b"ICCP"),
            exif=upright_exif(exif) if exif else None,
            xmp=xmp_of_turned(xmp, orientation),
            lossless=b"VP8L" in chunks,
        ),
    )


def encode_webp(image: Image) -> bytes:
    """The image, of 8 bits, as a WebP file with its metadata. Grey becomes RGB, the format knows no grey.

    Raises:
        ImageError: WebP cannot hold the image: a side of more than 16383 pixels.
    """
    from PIL import Image as PillowImage

    if max(image.height, image.width) > _LONGEST_SIDE:
        raise ImageError(
            f"WebP holds at most {_LONGEST_SIDE} pixels a side, not {image.width}×{image.height}"
        )
    icc = image.metadata.icc
    if icc is not None and icc[16:20] == b"GRAY":
        if image.colours is not None:
            raise ImageError("WebP knows no grey, and the image has a profile of grey")
        icc = None
    planes = image.pixels if image.channels == 3 else np.repeat(image.pixels, 3, axis=2)
    if image.alpha is not None:
        planes = np.dstack([planes, image.alpha])
    metadata = image.metadata
    out = io.BytesIO()
    PillowImage.fromarray(planes).save(
        out,
        "WEBP",
        lossless=not metadata.lossy,
        quality=metadata.quality or QUALITY,
        exact=True,  # else the colours below full transparency are lost
        icc_profile=icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    return out.getvalue()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, payload) of each chunk of the file."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise ImageError("WebP is cut short")
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            raise ImageError("WebP is cut short")
        yield kind, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def _size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """Width and height by the header of the picture itself."""
    lossless, lossy = chunks.get(b"VP8L"), chunks.get(b"VP8 ")
    if lossless is not None and len(lossless) >= 5 and lossless[0] == 0x2F:
        bits = int.from_bytes(lossless[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if lossy is not None and len(lossy) >= 10 and lossy[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", lossy, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError("damaged WebP: it has no picture")
