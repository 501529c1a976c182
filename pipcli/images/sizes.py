"""How large a picture is, from the first bytes of its file."""

from __future__ import annotations

import os
import stat
import warnings

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")


def size_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width that a file's header states, not checked further; None where it cannot be told."""
    from PIL import Image

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None  # opening a named pipe would wait until somebody writes to it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are not decoded here
            with Image.open(path, formats=_FORMATS) as picture:
                width, height = picture.size
    except Exception:  # a damaged file may raise anything; it is read, and refused, when its turn comes
        return None
    return height, width
