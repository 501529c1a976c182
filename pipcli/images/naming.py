"""How a file's name stands in a message."""

from __future__ import annotations

import os


def shown(path: str | os.PathLike[str]) -> str:
    """The path as one printable line: as it is where that is safe, else quoted with escapes.

    Names may hold newlines, terminal codes and bytes that are no text; a message must not.
    """
    name = os.fspath(path)
    return name if name.isprintable() else repr(name)


def one_line(text: str) -> str:
    """A message as one printable line: a codec's may have several, and quote what a damaged file holds."""
    line = " ".join(text.split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
