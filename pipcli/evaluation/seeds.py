"""Seeds from names, so that an image has the same noise in whatever order and company it is measured."""

from __future__ import annotations

import hashlib


def seed_of_name(name: str, size: int = 4) -> int:
    """A whole number of so many bytes that follows from a name alone, also from one that is no UTF-8."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:size], "big")
