"""``pipcli restore - -``: one image through a pipeline."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipcli.cli.standard import read_stdin
from pipcli.errors import ImageError, UsageError

if TYPE_CHECKING:
    from pipcli.images import Wishes
    from pipcli.images.formats import Format
    from pipcli.inference.decision import Choice, Decision
    from pipcli.inference.engine import Restorer

STREAM = "-"
"""Stands for stdin as input and for stdout as output; a file of that name is ``./-``."""


def check_stream(source: str, target: str, overwrite: bool, format_: Format | None) -> None:
    """Refuse what cannot go well, before anything is read.

    Args:
        format_: that is asked for, or None.

    Raises:
        UsageError: the input is not there, stdout is a terminal, a file stands in the way, or the output's
            suffix names no format that can be written, or not the one that is asked for.
        OutputError: the output cannot be written there, or what is there is no regular file.
    """
    from pipcli.batch.plan import require_output
    from pipcli.images.naming import shown

    if source != STREAM and not os.path.isfile(source):
        raise UsageError(f"{shown(source)}: there is no such file; to stdout goes one file")
    if target == STREAM:
        if sys.stdout.isatty():
            raise UsageError("the output - is a terminal: send it to a file or a program")
        return
    if not target:
        raise UsageError("the output has an empty name")
    path = Path(target)
    if target.endswith(("/", os.sep)) or path.is_dir():
        raise UsageError(f"{shown(target)}: is a folder; what comes from stdin has no name, name the file")
    require_output(target, format_)
    if not overwrite and path.exists() and path.stat().st_size:
        raise UsageError(f"{shown(target)}: is there already: --overwrite replaces it")


def restore_stream(
    source: str,
    target: str,
    restorer: Restorer,
    choice: Choice,
    strength: float,
    wishes: Wishes,
    max_pixels: int,
    memory: int | None,
    allow_cpu: bool,
) -> tuple[Decision, tuple[str, ...]]:
    """Restore one image from stdin or a file, to stdout or a file.

    To stdout in the format of the source, or as it is wished. Where nothing is to be undone, the file itself
    goes through, unless a wish changes it. Memory is kept as in :func:`pipcli.batch.run.run_plan`.

    Returns:
        what was decided, and what the user should know, a phrase each.

    Raises:
        UsageError, ImageError, OutputError, DeviceError: as for files.
    """
    from pipcli.batch.limits import refuse_too_large
    from pipcli.batch.stages import DIVIDED
    from pipcli.images import decode_image
    from pipcli.images.atomic import write_bytes
    from pipcli.images.dicom import is_dicom
    from pipcli.images.naming import shown
    from pipcli.images.reading import read_content
    from pipcli.images.writing import encode_for, refuse_unwritable, stays_as_wished
    from pipcli.inference.fallback import with_less
    from pipcli.inference.passes import restore_pages

    name = "standard input" if source == STREAM else shown(source)
    content = read_stdin() if source == STREAM else read_content(source)
    if is_dicom(content):
        raise ImageError(f"{name}: is DICOM, which is restored from file to file")
    original = image = decode_image(content, name, max_pixels=max_pixels)
    refuse_too_large(name, 2 * image.pixels.nbytes, memory)
    notes = list(image.metadata.notes)
    to_file = None if target == STREAM else target
    try:
        decision = choice.decide(image, restorer.degradations)
        if decision.restores:
            refuse_unwritable(image, to_file, wishes)
            omegas = decision.omegas_by_page(restorer.degradations)
            if any(map(restorer.divides, (image, *image.further))):
                notes.append(DIVIDED)
            image = with_less(
                lambda less: restore_pages(less, original, omegas, strength),
                restorer,
                original.longest_side,
                notes.append,
                allow_cpu,
            )
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    from_file = None if source == STREAM else source
    if not decision.restores and stays_as_wished(image, from_file, to_file, wishes):
        data, notes = content, []
    else:
        data = encode_for(image, to_file, wishes, notes.append)
    if to_file is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_bytes(to_file, data)
    return decision, tuple(notes)
