"""Windows of grey values: by name, by numbers, or as a file or its pixels give them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipcli.errors import UsageError

AUTO, PERCENTILES = "auto", "percentiles"

PRESETS = {
    "abdomen": (50.0, 400.0),
    "lung": (-600.0, 1500.0),
    "bone": (300.0, 2000.0),
    "brain": (40.0, 80.0),
    "mediastinum": (50.0, 350.0),
}
"""Name → centre and width in HU, as they are common in radiology."""

_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """The values from low to high, for CT in HU.

    Raises:
        ValueError: no finite numbers, or high is not above low.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"a window goes from a lower to a higher number, not from {self.low} to {self.high}"
            )

    @property
    def width(self) -> float:
        """From low to high."""
        return self.high - self.low

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"


TWELVE_BITS = Window(-1024.0, 3071.0)
"""What 12 bits hold of HU: the window ``full``."""

USUAL = Window(-200.0, 300.0)
"""For a CT that names no window of its own; the one of PIP's Fig. 5."""


@dataclass(frozen=True)
class WindowChoice:
    """What the user asked for.

    Args:
        text: in the user's words.
        window: in HU; None where each file gives its own (``auto``, ``percentiles``).
    """

    text: str
    window: Window | None = None

    @property
    def in_hounsfield(self) -> bool:
        """Whether it means something for CT alone."""
        return self.window is not None


def linear_window(centre: float, width: float) -> Window:
    """The window of DICOM's LINEAR function, whose ends are half a unit off centre (PS3.3, C.11.2.1.2.1).

    50/500 is [-200, 299].

    Raises:
        ValueError: the width is not above 1.
    """
    return Window(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def parse_window(text: str) -> WindowChoice:
    """``auto``, ``percentiles``, ``full``, a name of :data:`PRESETS`, ``LO,HI`` or ``CENTRE/WIDTH`` in HU.

    Raises:
        UsageError: none of these.
    """
    word = text.strip().lower()
    if word in (AUTO, PERCENTILES):
        return WindowChoice(word)
    if word == "full":
        return WindowChoice(word, TWELVE_BITS)
    if word in PRESETS:
        return WindowChoice(word, linear_window(*PRESETS[word]))
    for mark, build in ((",", Window), ("/", linear_window)):
        first, found, second = word.partition(mark)
        if found:
            try:
                return WindowChoice(word, build(float(first), float(second)))
            except ValueError:
                break
    raise UsageError(
        f"unknown window {text!r}: choose from {AUTO}, {PERCENTILES}, full, {', '.join(PRESETS)}, "
        "or give LO,HI or CENTRE/WIDTH with LO below HI and WIDTH above 1"
    )


def percentile_window(values: NDArray[np.float64], padded: NDArray[np.bool_]) -> Window | None:
    """From the 0.5th to the 99.5th percentile of the pixels that are no padding; None where equal."""
    pixels = values[~padded]
    if not pixels.size:
        return None
    low, high = np.percentile(pixels, _PERCENTILES)
    return Window(float(low), float(high)) if low < high else None
