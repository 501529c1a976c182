"""BMP (Windows bitmap): grey, RGB, palette, and alpha where Pillow finds it; 1 to 8 bits a channel.

A colour profile stands where BITMAPV5HEADER of the Windows API says. Pillow neither reads nor writes it.
"""

from __future__ import annotations

import io
import struct

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.image import METRES_AN_INCH, Image, Metadata, plausible_dpi
from pipcli.images.limits import check_size
from pipcli.images.samples import depth_note

SIGNATURE = b"BM"

_BIT_FIELDS = 3
_SMALLEST_HEADER = 26
_FILE_HEADER = 14
_V3, _V4, _V5 = 40, 108, 124
"""Bytes of the headers that are written: plain, with masks, with a profile."""
_EMBEDDED, _LINKED = b"DEBM", b"KNIL"
_SRGB = b"BGRs"
_INTENT = 4
"""Of photographs: perceptual (LCS_GM_IMAGES)."""
_LARGEST = 2**32 - 1
_MODES = {"P": "RGB", "1": "L"}
"""Pillow's modes that are no plain 8-bit channels, and what they are read as."""


def read_bmp(data: bytes, max_pixels: int) -> Image:
    """The image in a whole BMP file.

    Raises:
        ImageError: damaged, cut short, or larger than max_pixels; the file's name is not in the message,
            the caller has it.
    """
    from PIL import BmpImagePlugin

    if len(data) < _SMALLEST_HEADER:
        raise ImageError("BMP is cut short")
    try:
        with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as picture:
            check_size(picture.width, picture.height, max_pixels)
            palette, bilevel = picture.mode == "P", picture.mode == "1"
            planes = np.asarray(picture.convert(_MODES.get(picture.mode, picture.mode)))
            dpi = plausible_dpi(*picture.info.get("dpi", (0, 0)))
        icc, linked = _profile(data)
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError) as error:
        raise ImageError(f"damaged BMP: {error}") from error
    notes: tuple[str, ...] = ("palette image read as RGB",) if palette else ()
    if bilevel:
        notes += (depth_note(1),)
    if linked:
        notes += ("a colour profile in another file is not looked for",)
    has_alpha = planes.ndim == 3 and planes.shape[2] == 4
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :3] if planes.ndim == 3 else planes[:, :, None]),
        alpha=np.ascontiguousarray(planes[:, :, 3]) if has_alpha else None,
        metadata=Metadata("BMP", icc=icc, dpi=dpi, notes=notes),
    )


def _profile(data: bytes) -> tuple[bytes | None, bool]:
    """The profile in a file, and whether it names one that lies elsewhere.

    Raises:
        ImageError: the file ends before its profile does.
    """
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    header = data[_FILE_HEADER : _FILE_HEADER + size]
    if len(header) < _V5:
        return None, False
    kind = header[56:60]
    if kind != _EMBEDDED:
        return None, kind == _LINKED
    offset, length = struct.unpack_from("<2I", header, 112)
    icc = data[_FILE_HEADER + offset : _FILE_HEADER + offset + length]
    if len(icc) < length:
        raise ImageError("BMP is cut short")
    return icc or None, False


def encode_bmp(image: Image) -> bytes:
    """The image, of 8 bits, as a BMP file with its profile and resolution, no more.

    Grey with alpha becomes RGB. Not by Pillow, which writes no alpha that it reads back.

    Raises:
        ImageError: its pixels take more bytes than a BMP can have.
    """
    planes, palette, icc = image.pixels[:, :, ::-1], b"", image.metadata.icc or b""
    if image.alpha is not None:
        blue_green_red = planes if image.channels == 3 else np.repeat(planes, 3, axis=2)
        planes = np.dstack([blue_green_red, image.alpha])
    elif image.channels == 1:
        palette = (np.arange(256) * 0x010101).astype("<u4").tobytes()
    upside_down = planes[::-1].reshape(image.height, -1)
    rows = np.pad(upside_down, ((0, 0), (0, -upside_down.shape[1] % 4))).tobytes()
    size = _V5 if icc else _V3 if image.alpha is None else _V4
    start = _FILE_HEADER + size + len(palette)
    if start + len(rows) + len(icc) > _LARGEST:
        raise ImageError("BMP holds no more than 4 GiB")
    x, y = (round(value / METRES_AN_INCH) for value in image.metadata.dpi or (0.0, 0.0))
    compression = 0 if image.alpha is None else _BIT_FIELDS
    header = struct.pack("<IiiHH", size, image.width, image.height, 1, 8 * planes.shape[2])
    header += struct.pack("<IIiiII", compression, len(rows), x, y, len(palette) // 4, 0)
    if size > _V3:
        masks = (0,) * 4 if image.alpha is None else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        header += struct.pack("<4I4s48x", *masks, _EMBEDDED if icc else _SRGB)
    if size == _V5:
        header += struct.pack("<4I", _INTENT, start - _FILE_HEADER + len(rows), len(icc), 0)
    whole = struct.pack("<2sIHHI", SIGNATURE, start + len(rows) + len(icc), 0, 0, start)
    return whole + header + palette + rows + icc
