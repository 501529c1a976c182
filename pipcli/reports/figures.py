"""What all drawings by matplotlib share. It is an extra, so it is imported only where something is drawn."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipcli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b63ce", "#d1495b", "#2a9d5c", "#b07d12", "#7b4fc9", "#00838f")
"""Those of the pages' dots."""


def require_matplotlib() -> None:
    """Raise UsageError where it is not installed."""
    if find_spec("matplotlib") is None:
        raise UsageError("PNG is drawn by matplotlib: pip install 'pipcli[plots]'")


def png_of(figure: Figure, dpi: int) -> bytes:
    """A figure as a PNG file. No version of matplotlib is in it: the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()
