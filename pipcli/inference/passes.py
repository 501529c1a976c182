"""Restoring in several passes, one after another over the whole image, without rounding in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pipcli.errors import UsageError
from pipcli.images import Image
from pipcli.inference.engine import Redo, Restorer


def restore_in_passes(
    restorer: Restorer,
    image: Image,
    omegas: Sequence[Sequence[float]],
    strength: float = 1.0,
    on_redo: Callable[[Redo], None] | None = None,
) -> Image:
    """The image restored once for each ω, each time from what the last pass made of it.

    A single pass is :meth:`Restorer.restore` itself. Between several the image is held in floating point, and
    the strength is that of all of them together: 0 gives the image back, 1 what the last pass makes.

    Args:
        omegas: ω of each pass, at least one.
        strength: s in [0, 1]; the result is x + s·(y - x) in the file's own values, y what all passes make.

    Raises:
        UsageError, ImageError, DeviceError: as :meth:`Restorer.restore`.
    """
    if not omegas:
        raise ValueError("no pass: there must be at least one")
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength}: it must be from 0 to 1")
    if len(omegas) == 1:
        return restorer.restore(image, omegas[0], strength, on_redo)
    restored = replace(_floating(image), further=tuple(map(_floating, image.further)))
    for omega in omegas:
        restored = restorer.restore(restored, omega, on_redo=on_redo)
    pages = zip(image.further, restored.further, strict=True)
    further = tuple(_blended(before, after, strength) for before, after in pages)
    return replace(_blended(image, restored, strength), further=further)


def restore_pages(
    restorer: Restorer,
    image: Image,
    omegas: Sequence[Sequence[Sequence[float]]],
    strength: float = 1.0,
    on_redo: Callable[[Redo], None] | None = None,
) -> Image:
    """The image, each of its pages restored in passes of its own; a page of no pass stays as it is.

    Args:
        omegas: for each page ω of each pass (:meth:`pipcli.inference.decision.Decision.omegas_by_page`); one
            entry is for all pages.

    Raises:
        UsageError, ImageError, DeviceError: as :meth:`Restorer.restore`.
    """
    if len(omegas) == 1:
        return restore_in_passes(restorer, image, omegas[0], strength, on_redo)
    pages = [
        restore_in_passes(restorer, page, passes, strength, on_redo) if passes else page
        for page, passes in zip((replace(image, further=()), *image.further), omegas, strict=True)
    ]
    return replace(pages[0], further=tuple(pages[1:]))


def _floating(page: Image) -> Image:
    """A page in float32: whole numbers from 0 to 1, floats as they are."""
    if page.pixels.dtype == np.float32:
        return page
    alpha = None if page.alpha is None else page.alpha.astype(np.float32)
    return replace(page, pixels=page.pixels.astype(np.float32) / np.float32(page.peak), alpha=alpha)


def _blended(before: Image, after: Image, strength: float) -> Image:
    """The way from a page to its restored floats, in the page's stored type; whole numbers are rounded."""
    values = after.pixels * np.float32(before.peak)
    if strength < 1:
        values = before.pixels + np.float32(strength) * (values - before.pixels)
    if before.pixels.dtype != np.float32:
        values = np.rint(np.clip(values, 0, before.peak))
    return before.with_pixels(values.astype(before.pixels.dtype))
