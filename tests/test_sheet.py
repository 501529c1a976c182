"""Sheets of pictures: panels stand unaltered where the layout says, text is drawn, wrong rows are refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipcli.reports.sheet import CAPTION_HEIGHT, GAP, MARGIN, PAPER, TITLE_HEIGHT, Panel, Row, draw_sheet


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def test_panels_are_shown_pixel_for_pixel():
    pictures = [picture(40, 60, seed) for seed in range(4)]
    rows = [
        Row("first", (Panel(pictures[0], "a"), Panel(pictures[1], "b"))),
        Row("second", (Panel(pictures[2], ""), Panel(pictures[3], "d"))),
    ]
    sheet = draw_sheet(["left", "right"], rows)

    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 2 * MARGIN + 2 * 60 + GAP
    for number, pixels in enumerate(pictures):
        row, column = divmod(number, 2)
        top = MARGIN + 2 * TITLE_HEIGHT + row * (40 + CAPTION_HEIGHT + TITLE_HEIGHT)
        left = MARGIN + column * (60 + GAP)
        shown = sheet[top : top + 40, left : left + 60]
        np.testing.assert_array_equal(shown, np.floor(pixels * 255 + 0.5).astype(np.uint8))


def test_values_outside_the_range_are_clipped():
    pixels = np.full((8, 8, 3), 1.5, dtype=np.float32)
    pixels[:, 4:] = -0.5
    sheet = draw_sheet([""], [Row("", (Panel(pixels, ""),))])
    top = MARGIN + 2 * TITLE_HEIGHT
    assert (sheet[top : top + 8, MARGIN : MARGIN + 4] == 255).all()
    assert (sheet[top : top + 8, MARGIN + 4 : MARGIN + 8] == 0).all()


def test_text_is_drawn_and_only_where_there_is_text():
    pixels = np.ones((8, 200, 3), dtype=np.float32)
    spoken = draw_sheet(["heading"], [Row("title", (Panel(pixels, "31.2 dB"),))])
    silent = draw_sheet([""], [Row("", (Panel(pixels, ""),))])
    bands = {
        "heading": slice(MARGIN, MARGIN + TITLE_HEIGHT),
        "title": slice(MARGIN + TITLE_HEIGHT, MARGIN + 2 * TITLE_HEIGHT),
        "caption": slice(MARGIN + 2 * TITLE_HEIGHT + 8, -MARGIN),
    }
    for band in bands.values():
        assert (spoken[band] != PAPER).any()
        assert (silent[band] == PAPER).all()


def test_panels_of_different_sizes_share_a_column():
    rows = [Row("wide", (Panel(picture(10, 90, 0), ""),)), Row("tall", (Panel(picture(50, 20, 1), ""),))]
    assert draw_sheet(["x"], rows).shape[1] == 90 + 2 * MARGIN


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        draw_sheet(["x"], [])
    with pytest.raises(ValueError, match="'odd' has 1 panels for 2 columns"):
        draw_sheet(["x", "y"], [Row("odd", (Panel(picture(4, 4, 0), ""),))])
    with pytest.raises(ValueError, match="H×W×3"):
        Panel(np.zeros((4, 4), dtype=np.float32), "")
