"""Images → files, written atomically."""

from __future__ import annotations

import os

from pipcli.errors import ImageError, UsageError
from pipcli.images.atomic import write_bytes
from pipcli.images.formats import FORMATS, Format, format_of_name
from pipcli.images.image import Image
from pipcli.images.naming import shown


def write_image(image: Image, path: str | os.PathLike[str]) -> None:
    """Write the image with its metadata at path, in the format that the path's suffix names.

    A path without suffix gets the format of the image's source. The file is encoded first and then put
    in place in one step: a reader sees the old file or the whole new one.

    Raises:
        UsageError: the suffix names no format that can be written.
        ImageError: the format cannot hold the image, such as 16 bits in a JPEG.
        OutputError: the file cannot be written; what stood at path before is untouched.
    """
    write_bytes(path, encode_for(image, path))


def encode_for(image: Image, path: str | os.PathLike[str]) -> bytes:
    """What `write_image` writes at path, as bytes; errors in the same words."""
    format_ = format_of_name(path)
    if format_ is None and os.path.splitext(path)[1]:
        known = ", ".join(suffix for each in FORMATS for suffix in each.suffixes)
        raise UsageError(f"{shown(path)}: its suffix is none that can be written: {known}")
    try:
        return (format_ or _named(image.metadata.format)).encode(image)
    except ImageError as error:
        raise ImageError(f"{shown(path)}: {error}") from error


def encode_image(image: Image, format_name: str | None = None) -> bytes:
    """The image as a file's bytes, in the named format or else in that of its source.

    Raises:
        UsageError: no such format.
        ImageError: the format cannot hold the image.
    """
    return _named(format_name or image.metadata.format).encode(image)


def _named(name: str) -> Format:
    for format_ in FORMATS:
        if format_.name.upper() == name.upper():
            return format_
    raise UsageError(f"unknown format {name!r}: choose from {', '.join(each.name for each in FORMATS)}")
