"""What tests of image formats share: smooth pictures, a profile, a packet of XMP, and damage."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pytest

from pipcli.errors import ImageError
from pipcli.images import decode_image
from pipcli.images.colour import profile_of

P3 = profile_of((0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290), None)
"""Display P3 with sRGB's curve."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def smooth(dtype: str, channels: int) -> np.ndarray:
    """Ramps, each channel its own, 40×56×C over all of the type's values; floats from 0 to 1."""
    y, x = np.mgrid[:40, :56]
    planes = np.stack([(y + (c + 1) * x) % 251 / 250 for c in range(channels)], axis=2)
    return planes.astype(dtype) if dtype == "float32" else np.rint(planes * np.iinfo(dtype).max).astype(dtype)


def check_damage(data: bytes, name: str, lengths: Iterable[int], capfd: pytest.CaptureFixture[str]) -> None:
    """Every cut is refused, changed bytes are refused or read, both in one line and without a sound.

    Args:
        data: a whole file.
        name: to stand in the messages.
        lengths: to which it is cut; at each of them something must be missing.
        capfd: pytest's.
    """
    for length in lengths:
        with pytest.raises(ImageError, match=rf"^{re.escape(name)}: [^\n]+$"):
            decode_image(data[:length], name)
    rng = np.random.default_rng(8)
    messages: list[str] = []
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(12, len(data), 2):
            damaged[place] = rng.integers(256)
        try:
            decode_image(bytes(damaged), name, max_pixels=10**6)
        except ImageError as error:
            messages.append(str(error))
    assert messages
    assert all(message.isprintable() for message in messages)
    assert capfd.readouterr().out == ""
