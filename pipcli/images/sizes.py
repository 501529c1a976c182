"""How large a picture is, from what its file says of itself."""

from __future__ import annotations

import os
import stat

from pipcli.images.warned import heard_warnings

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "AVIF", "JPEG2000")


def size_of(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """Pages, height and width that a file states, not checked further; None where it cannot be told.

    Of several pages the size is the first one's.
    """
    from PIL import Image

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None  # opening a named pipe would wait until somebody writes to it
        # Of large pictures, which are not decoded here, and of damage, which is told when its turn comes.
        with heard_warnings(), Image.open(path, formats=_FORMATS) as picture:
            width, height = picture.size
            # Of all formats only TIFF is written with several pages.
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    except Exception:  # a damaged file may raise anything; it is read, and refused, when its turn comes
        return None
    return pages, height, width
