"""What models are called in tables: the names of the table of models, and files by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

WEIGHTS_SUFFIX = ".safetensors"


def labels_of(names: Sequence[str]) -> list[str]:
    """A label for each name: of a weights file its stem, of several with one stem the folders above it too.

    As many folders are named as tell them apart: ``a/best`` and ``b/best``. Labels are equal only where the
    names stand for the same.
    """
    # From the name up; what is no file has one part alone.
    parts = [_upwards(name) if _is_path(name) else (name,) for name in names]
    depths = [1] * len(names)
    while True:
        labels = ["/".join(reversed(each[:depth])) for each, depth in zip(parts, depths, strict=True)]
        meant = Counter(label for label, _ in set(zip(labels, parts, strict=True)))
        longer = [
            depth + (meant[label] > 1 and depth < len(each))
            for label, each, depth in zip(labels, parts, depths, strict=True)
        ]
        if longer == depths:
            return labels
        depths = longer


def _is_path(name: str) -> bool:
    return name.endswith(WEIGHTS_SUFFIX) or os.path.basename(name) != name


def _upwards(path: str) -> tuple[str, ...]:
    """The stem of a file, the name of its folder, and so on up to the root."""
    absolute = PurePath(os.path.abspath(path))
    return (absolute.stem, *reversed(absolute.parts[1:-1]))
