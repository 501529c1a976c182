"""One picture of many: rows of panels with captions, such as degraded, restored and clean side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PAPER = (250, 250, 248)
INK = (28, 28, 30)
FAINT = (110, 110, 116)

MARGIN = 24
GAP = 12
TITLE_SIZE = 22
CAPTION_SIZE = 17
TITLE_HEIGHT = 40
CAPTION_HEIGHT = 30


@dataclass(frozen=True)
class Panel:
    """One picture of a row.

    Attributes:
        pixels: H×W×3 float32 in [0, 1]; shown pixel for pixel, never resampled.
        caption: one line under the picture; may be empty.
    """

    pixels: NDArray[np.float32]
    caption: str

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or 0 in self.pixels.shape:
            raise ValueError(f"a panel's pixels are H×W×3, not {self.pixels.shape}")


@dataclass(frozen=True)
class Row:
    """A title line and the panels below it, as many as the sheet has columns."""

    title: str
    panels: tuple[Panel, ...]


def draw_sheet(columns: Sequence[str], rows: Sequence[Row]) -> NDArray[np.uint8]:
    """Draw the sheet.

    Args:
        columns: a heading for each column, drawn once at the top.
        rows: from top to bottom; a column is as wide as its widest panel.

    Returns:
        H×W×3 uint8.

    Raises:
        ValueError: there is no row, or one has not exactly a panel for each column.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    for row in rows:
        if len(row.panels) != len(columns):
            raise ValueError(f"row {row.title!r} has {len(row.panels)} panels for {len(columns)} columns")

    widths = [max(row.panels[i].pixels.shape[1] for row in rows) for i in range(len(columns))]
    heights = [max(panel.pixels.shape[0] for panel in row.panels) for row in rows]
    lefts = [MARGIN + sum(widths[:i]) + i * GAP for i in range(len(columns))]
    width = lefts[-1] + widths[-1] + MARGIN
    height = MARGIN + TITLE_HEIGHT + sum(heights) + len(rows) * (TITLE_HEIGHT + CAPTION_HEIGHT) + MARGIN

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    title_font = ImageFont.load_default(TITLE_SIZE)
    caption_font = ImageFont.load_default(CAPTION_SIZE)

    top = MARGIN
    for left, heading in zip(lefts, columns, strict=True):
        draw.text((left, top), heading, fill=FAINT, font=title_font)
    top += TITLE_HEIGHT
    for row, row_height in zip(rows, heights, strict=True):
        draw.text((MARGIN, top + 6), row.title, fill=INK, font=title_font)
        top += TITLE_HEIGHT
        for left, panel in zip(lefts, row.panels, strict=True):
            sheet.paste(Image.fromarray(_to_uint8(panel.pixels)), (left, top))
            caption_top = top + panel.pixels.shape[0] + 4
            draw.text((left, caption_top), panel.caption, fill=FAINT, font=caption_font)
        top += row_height + CAPTION_HEIGHT
    return np.asarray(sheet)


def _to_uint8(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    rounded: NDArray[np.float32] = np.rint(np.clip(pixels, 0.0, 1.0) * 255.0)
    return rounded.astype(np.uint8)
