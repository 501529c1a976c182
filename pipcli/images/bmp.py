"""BMP (Windows bitmap): grey, RGB, palette, and alpha where Pillow finds it; 1 to 8 bits a channel."""

from __future__ import annotations

import io
import struct

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.image import Image, Metadata, plausible_dpi
from pipcli.images.limits import check_size

SIGNATURE = b"BM"

_INCH = 0.0254
_BIT_FIELDS = 3
_SMALLEST_HEADER = 26
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
            palette = picture.mode == "P"
            planes = np.asarray(picture.convert(_MODES.get(picture.mode, picture.mode)))
            dpi = plausible_dpi(*picture.info.get("dpi", (0, 0)))
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, EOFError) as error:
        raise ImageError(f"damaged BMP: {error}") from error
    has_alpha = planes.ndim == 3 and planes.shape[2] == 4
    return Image(
        pixels=np.ascontiguousarray(planes[:, :, :3] if planes.ndim == 3 else planes[:, :, None]),
        alpha=np.ascontiguousarray(planes[:, :, 3]) if has_alpha else None,
        metadata=Metadata(
            "BMP",
            dpi=dpi,
            notes=("palette image read as RGB",) if palette else (),
        ),
    )


def encode_bmp(image: Image) -> bytes:
    """The image as a BMP file, which holds no metadata but its resolution. Grey with alpha becomes RGB.

    Not by Pillow, which writes no alpha that it reads back.

    Raises:
        ImageError: its pixels have more than 8 bits.
    """
    if image.pixels.dtype != np.uint8:
        raise ImageError(f"BMP holds 8 bits, not pixels of {image.pixels.dtype}")
    planes, palette, masks = image.pixels[:, :, ::-1], b"", b""
    if image.alpha is not None:
        blue_green_red = planes if image.channels == 3 else np.repeat(planes, 3, axis=2)
        planes = np.dstack([blue_green_red, image.alpha])
        masks = struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    elif image.channels == 1:
        palette = (np.arange(256) * 0x010101).astype("<u4").tobytes()
    upside_down = planes[::-1].reshape(image.height, -1)
    rows = np.pad(upside_down, ((0, 0), (0, -upside_down.shape[1] % 4))).tobytes()
    x, y = (round(value / _INCH) for value in image.metadata.dpi or (0.0, 0.0))
    start = 14 + 40 + len(masks) + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
    header += struct.pack("<IiiHH", 40 + len(masks), image.width, image.height, 1, 8 * planes.shape[2])
    header += struct.pack("<IIiiII", _BIT_FIELDS if masks else 0, len(rows), x, y, len(palette) // 4, 0)
    return header + masks + palette + rows
