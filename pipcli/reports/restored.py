"""A page of restored files: before and after under a slider, and what was done to each. One HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pipcli.images import Image
from pipcli.reports.page import self_contained_page

THUMBNAIL = 512
"""Longest side of a picture on the page, in pixels."""
DETAIL = (320, 480)
"""Rows and columns of the part that is shown pixel for pixel."""
_QUALITY = 82


@dataclass(frozen=True)
class Pair:
    """One view of a file before and after: two WebP files of the same size in pixels."""

    before: bytes
    after: bytes
    width: int
    height: int


@dataclass(frozen=True)
class FileRecord:
    """What became of one file.

    Attributes:
        name: of the input, printable.
        target: of the output, printable; empty where there is none.
        state: ``restored``, ``untouched``, ``there already``, ``left alone``, ``not begun`` or ``failed``.
        seconds: that it took.
        notes: what is to be known of it; for a failure the reason.
        views: the whole picture, and a part of it pixel for pixel where it was made smaller.
    """

    name: str
    target: str
    state: str
    seconds: float
    notes: tuple[str, ...] = ()
    views: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class RestoredReport:
    """A run: its title, facts about how it was made (name, value), and its files in order."""

    title: str
    facts: tuple[tuple[str, str], ...]
    files: tuple[FileRecord, ...]


def views_of(before: Image, after: Image) -> tuple[Pair, ...]:
    """The views of a file, as :func:`shown_parts` cuts them.

    Args:
        before, after: of the same height and width; of several pages the first is shown.
    """
    return tuple(_pair(*pair) for pair in zip(shown_parts(before), shown_parts(after), strict=True))


def shown_parts(image: Image) -> tuple[NDArray[np.float32], ...]:
    """What a page shows of an image, each h×w×3 in [0, 1].

    The whole, and the middle pixel for pixel if the whole had to be made smaller.
    """
    height, width = image.height, image.width
    factor = -(-max(height, width) // THUMBNAIL)
    parts = [_reduced(image, factor)]
    if factor > 1:
        rows, columns = min(DETAIL[0], height), min(DETAIL[1], width)
        top, left = (height - rows) // 2, (width - columns) // 2
        parts.append(image.crop_float(top, top + rows, left, left + columns))
    return tuple(parts)


def _reduced(image: Image, factor: int) -> NDArray[np.float32]:
    """The image as h×w×3 in [0, 1], each pixel the mean of factor × factor; a band at a time."""
    height, width = image.height, image.width
    columns = np.arange(0, width, factor)
    widths = np.diff(np.append(columns, width))
    bands = []
    for top in range(0, height, factor):
        band = image.crop_float(top, min(top + factor, height), 0, width).mean(axis=0)
        bands.append(np.add.reduceat(band, columns, axis=0) / widths[:, None])
    return np.stack(bands).astype(np.float32)


def _pair(before: NDArray[np.float32], after: NDArray[np.float32]) -> Pair:
    height, width = before.shape[:2]
    return Pair(_webp(before), _webp(after), width, height)


def _webp(pixels: NDArray[np.float32]) -> bytes:
    stored = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(stored).save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()


def restored_page(report: RestoredReport) -> str:
    """The report as one HTML file that needs nothing beside it."""
    return self_contained_page(report.title, "restored", _body(report))


def _body(report: RestoredReport) -> Iterator[str]:
    yield "<dl class=facts>"
    for name, value in report.facts:
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"
    failed = [record for record in report.files if record.state == "failed"]
    if failed:
        yield "<section class=failed><h2>Failed</h2><ul>"
        yield from (f"<li>{escape('; '.join(record.notes))}</li>" for record in failed)
        yield "</ul></section>"
    yield from _filters(report.files)
    shown = [record for record in report.files if record.views]
    if shown:
        yield "<div class=cards>"
        yield from map(_card, shown)
        yield "</div>"
    unseen = sum(record.state in ("restored", "there already") for record in report.files) - len(shown)
    if unseen > 0:
        yield f"<p class=note>{unseen} more restored files are in the table, without pictures.</p>"
    yield "<div class=wide><table><thead><tr><th>file</th><th>state</th><th class=number>seconds</th>"
    yield "<th>notes</th></tr></thead><tbody>"
    yield from map(_row, report.files)
    yield "</tbody></table></div>"


def _filters(records: Sequence[FileRecord]) -> Iterator[str]:
    """A field and a box for each state, by which the script hides files."""
    yield "<form class=filters><input type=search placeholder='file name' aria-label='file name'>"
    for state in dict.fromkeys(record.state for record in records):
        count = sum(record.state == state for record in records)
        yield (
            f"<label><input type=checkbox checked value='{escape(state)}'> "
            f"<span class=state data-state='{escape(state)}'>{escape(state)}</span> {count}</label>"
        )
    yield "</form>"


def _card(record: FileRecord) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in record.notes)
    views = "".join(
        _slider(pair, caption)
        for pair, caption in zip(record.views, ("whole", "middle, pixel for pixel"), strict=False)
    )
    return (
        f"<article class=card data-state='{escape(record.state)}' data-name='{escape(record.name)}'>"
        f"<h2>{escape(record.name)}</h2><div class=views>{views}</div>"
        f"{f'<ul>{notes}</ul>' if notes else ''}</article>"
    )


def _slider(pair: Pair, caption: str) -> str:
    before, after = (
        "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
        for data in (pair.before, pair.after)
    )
    size = f"width={pair.width} height={pair.height}"
    shape = f"max-width:{pair.width}px;aspect-ratio:{pair.width}/{pair.height}"
    return (
        f"<figure><div class=compare style='{shape}'>"
        f"<img {size} alt=before src='{before}'><img class=after {size} alt=after src='{after}'>"
        "<span class=line></span><b class=left>before</b><b class=right>after</b>"
        "<input type=range min=0 max=100 step=0.1 value=50 "
        f"aria-label='before or after: {escape(caption)}'></div>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _row(record: FileRecord) -> str:
    target = f"<br><small>{escape(record.target)}</small>" if record.target else ""
    return (
        f"<tr data-state='{escape(record.state)}' data-name='{escape(record.name)}'>"
        f"<td>{escape(record.name)}{target}</td>"
        f"<td><span class=state data-state='{escape(record.state)}'>{escape(record.state)}</span></td>"
        f"<td class=number>{record.seconds:.2f}</td><td>{escape('; '.join(record.notes))}</td></tr>"
    )
