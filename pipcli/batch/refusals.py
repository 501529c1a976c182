"""What a file system refuses of one file alone, so that the others go on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pipcli.errors import ImageError, OutputError

_NAMES = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})
"""What it says of a name that it does not take."""

_FILES = frozenset({errno.EPERM, errno.EISDIR})
"""What it says of a file that nobody may replace; of a link, EPERM says that it has none."""


@contextmanager
def of_one_file(linking: bool = False) -> Iterator[None]:
    """Turn the error of an output that concerns this file alone into one that ends nothing.

    Args:
        linking: the output is a link.

    Raises:
        ImageError: the file system does not take this name, or lets this file not be replaced.
        OutputError: it takes nothing.
    """
    try:
        yield
    except OutputError as error:
        alone = _NAMES if linking else _NAMES | _FILES
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in alone:
            raise ImageError(str(error)) from error
        raise
