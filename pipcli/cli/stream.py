"""``pipcli restore - -``: one image through a pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pipcli.images import Wishes
    from pipcli.inference.engine import Restorer

STREAM = "-"
"""Stands for stdin as input and for stdout as output; a file of that name is ``./-``."""


def check_stream(source: str, target: str, overwrite: bool) -> None:
    """Refuse what cannot go well, before anything is read.

    Raises:
        UsageError: the input is not there, stdout is a terminal, or a file stands in the way.
    """
    from pipcli.images.naming import shown

    if source != STREAM and not os.path.isfile(source):
        raise UsageError(f"{shown(source)}: there is no such file; to stdout goes one file")
    if target == STREAM:
        if sys.stdout.isatty():
            raise UsageError("the output - is a terminal: send it to a file or a program")
        return
    path = Path(target)
    if target.endswith(("/", os.sep)) or path.is_dir():
        raise UsageError(f"{shown(target)}: is a folder; what comes from stdin has no name, name the file")
    if not overwrite and path.exists() and path.stat().st_size:
        raise UsageError(f"{shown(target)}: is there already: --overwrite replaces it")


def restore_stream(
    source: str,
    target: str,
    restorer: Restorer,
    omega: Sequence[float],
    strength: float,
    wishes: Wishes,
    max_pixels: int,
) -> tuple[str, ...]:
    """Restore one image from stdin or a file, to stdout or a file.

    To stdout in the format of the source, or as it is wished.

    Returns:
        what the user should know, a phrase each.

    Raises:
        UsageError, ImageError, OutputError, DeviceError: as for files.
    """
    from pipcli.images import decode_image, encode_image, write_image
    from pipcli.images.dicom import is_dicom
    from pipcli.images.naming import shown
    from pipcli.images.reading import read_content

    name = "standard input" if source == STREAM else shown(source)
    content = sys.stdin.buffer.read() if source == STREAM else read_content(source)
    if is_dicom(content):
        raise ImageError(f"{name}: is DICOM, which is restored from file to file")
    image = decode_image(content, name, max_pixels=max_pixels)
    try:
        restored = restorer.restore(image, omega, strength)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    if target == STREAM:
        sys.stdout.buffer.write(encode_image(restored, wishes=wishes))
        sys.stdout.buffer.flush()
    else:
        return (*image.metadata.notes, *write_image(restored, target, wishes))
    return image.metadata.notes
