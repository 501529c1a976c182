"""Templates for the names of outputs, such as ``{stem}_restored{suffix}``."""

from __future__ import annotations

import os
import string
from dataclasses import dataclass
from pathlib import PurePath

from pipcli.errors import UsageError
from pipcli.images.formats import SUFFIXES, Format
from pipcli.images.naming import shown

_FIELDS = ("stem", "suffix")
_LONGEST = 255
"""Bytes of a name that the usual file systems hold."""


@dataclass(frozen=True)
class NameTemplate:
    """How an output is named after its input.

    Args:
        text: with ``{stem}`` and ``{suffix}`` (the dot included) for the parts of the input's name.
        format_: what is written; a name that stands for another format, or for none, takes its suffix.

    Raises:
        UsageError: another field, or a folder in it.
    """

    text: str = "{stem}{suffix}"
    format_: Format | None = None

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise UsageError(f"--name is {self.text!r}: {error}") from None
        for _, field, specification, conversion in parts:
            if field is not None and (field not in _FIELDS or specification or conversion):
                raise UsageError(
                    f"--name is {self.text!r}: it may hold {{stem}} and {{suffix}}, no {{{field}}}"
                )
        if "/" in self.text or os.sep in self.text or "\0" in self.text or not self.text:
            raise UsageError(f"--name is {self.text!r}: it must be a file's name, without folders")

    def apply(self, name: str) -> str:
        """The name of the output for an input of this name.

        Raises:
            UsageError: it would be no name, or longer than names can be.
        """
        path = PurePath(name)
        made = self.text.format(stem=path.stem, suffix=path.suffix)
        suffix = PurePath(made).suffix
        if self.format_ is not None and suffix.lower() not in self.format_.suffixes:
            made = (
                made.removesuffix(suffix) if suffix.lower() in SUFFIXES else made
            ) + self.format_.suffixes[0]
        if made in ("", ".", ".."):
            raise UsageError(f"{shown(name)}: --name makes {made!r} of it, which names no file")
        if made != name and len(os.fsencode(made)) > _LONGEST:
            raise UsageError(f"{shown(name)}: --name makes a name of over {_LONGEST} bytes of it")
        return made
