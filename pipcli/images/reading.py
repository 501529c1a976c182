"""Files → images. What a file is, its content says, not its name."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import numpy as np

from pipcli.errors import ImageError
from pipcli.images.colour import problem_of
from pipcli.images.dicom import is_dicom
from pipcli.images.folders import resolution_of
from pipcli.images.formats import describe_stranger, format_of_content
from pipcli.images.image import Image, plausible_dpi
from pipcli.images.limits import MAX_PIXELS
from pipcli.images.naming import one_line, shown

_HEAD = 132
_READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Does not wait: opening a named pipe would otherwise block until somebody writes to it."""


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in a file, upright, in its stored type.

    Args:
        path: of a regular file.
        max_pixels: refuse larger images, from their header, before decoding.

    Raises:
        ImageError: the file cannot be read, is no image of a known format, is damaged or cut short, is
            animated, or is too large; one line that starts with the path.
    """
    return decode_image(read_content(path), shown(path), max_pixels=max_pixels)


def read_content(path: str | os.PathLike[str]) -> bytes:
    """What `decode_image` needs of a file; not what a copy needs.

    That is the whole of it where it is of a known format, and of anything else, DICOM and zip files too, only
    the first 132 bytes.

    Raises:
        ImageError: it cannot be read, or is no regular file; one line that starts with the path.
    """
    name = shown(path)
    try:
        with open(os.open(path, _READ_ONLY), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ImageError(f"{name}: is no regular file")
            head = file.read(_HEAD)
            # A file of no known format may be of any size: it is not read further.
            if format_of_content(head) is None:
                return head
            file.seek(0)
            return file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(f"{name}: cannot be read: {reason}") from error


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in a file's bytes; name stands in messages. Else as `read_image`."""
    # First: DICOM may begin like a TIFF, with a preview for programs that know no DICOM.
    if is_dicom(data[:_HEAD]):
        raise ImageError(
            f"{name}: is DICOM, whose values are no colours: pipcli restore --task denoise is for such files"
        )
    format_ = format_of_content(data)
    if format_ is None:
        raise ImageError(f"{name}: {describe_stranger(data)}")
    if not format_.available:
        raise ImageError(f"{name}: {format_.name} cannot be read, the codec is not installed")
    try:
        # Damaged headers make tifffile divide by zero, which numpy would say on stderr.
        with np.errstate(all="ignore"):
            return _with_colour_note(_with_resolution(format_.read(data, max_pixels)))
    except ImageError as error:
        raise ImageError(f"{name}: {one_line(str(error))}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit into memory") from error


def _with_resolution(image: Image) -> Image:
    """The image with the resolution that its EXIF alone states, as cameras write it.

    Not an uneven one: whether it is that of the pixels as stored or upright cannot be told here. And not
    where pixels are not square, which it would deny.
    """
    metadata = image.metadata
    silent = metadata.dpi is None and metadata.aspect is None
    stated = resolution_of(metadata.exif) if metadata.exif and silent else None
    if stated is None or stated[0] != stated[1]:
        return image
    return replace(image, metadata=replace(metadata, dpi=plausible_dpi(*stated)))


def _with_colour_note(image: Image) -> Image:
    """The image, saying so where its profile is kept but not understood."""
    metadata = image.metadata
    problem = problem_of(metadata.icc, image.channels) if metadata.icc else None
    if problem is None:
        return image
    note = f"its colour profile is kept but not used, the colours are taken for sRGB: {problem}"
    return replace(image, metadata=replace(metadata, notes=(*metadata.notes, note)))
