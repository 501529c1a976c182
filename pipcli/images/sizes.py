"""How large a picture is, from the first bytes of its file."""

from __future__ import annotations

import os
import warnings


def size_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width that a file's header states, not checked further; None where it cannot be told."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are not decoded here
            with Image.open(path) as picture:
                width, height = picture.size
    except Exception:  # a damaged file may raise anything; it is read, and refused, when its turn comes
        return None
    return height, width
