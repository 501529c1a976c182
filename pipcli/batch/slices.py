"""One DICOM file of a run: read, restored within its window, written as a derived image; or left alone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipcli.batch.plan import Job, Plan
from pipcli.degradations import Degradation
from pipcli.errors import ImageError, PipcliError, UsageError
from pipcli.images import MAX_PIXELS, Image
from pipcli.images.dicom import DicomImage, LeftAlone
from pipcli.images.dicom_reading import read_dicom, series_of
from pipcli.images.dicom_windows import AUTO, USUAL, Window, WindowChoice, percentile_window
from pipcli.images.dicom_writing import Derivation, encode_dicom
from pipcli.images.naming import shown
from pipcli.inference.hounsfield import restore_values, shown_in

if TYPE_CHECKING:
    from pipcli.inference.decision import Choice, Decision, Weights
    from pipcli.inference.engine import Redo, Restorer

_NAMED = 10
"""Missing slices of a series that are named one by one."""


@dataclass(frozen=True)
class DicomOptions:
    """What a run does with DICOM files.

    Attributes:
        model: name of the model, for the files to say.
        model_sha256: of its weights file.
        window: what is restored; None is ``auto`` for CT and leaves CR, DX and MR alone.
        sigma: standard deviation of the noise in HU as stated by the user, or None.
        copy_others: copy what is left alone to the output.
        drop_private: leave private elements out of what is written.
    """

    model: str
    model_sha256: str
    window: WindowChoice | None = None
    sigma: float | None = None
    copy_others: bool = False
    drop_private: bool = False


@dataclass(frozen=True)
class Treatment:
    """What was done with a DICOM file.

    Attributes:
        data: the file to write, restored or copied; None where none is.
        left_alone: why it was not restored, as the end of the sentence "the file …"; None where it was.
        series: tells its series from others, and nothing else; None where it was left alone.
        notes: what the user should know, a phrase each.
        decision: whether its noise was removed; None where it was left alone.
    """

    data: bytes | None = None
    left_alone: str | None = None
    series: str | None = None
    notes: tuple[str, ...] = ()
    decision: Decision | None = None


def require_denoising(plan: Plan, passes: Iterable[Weights]) -> None:
    """Refuse any task but noise removal where a plan holds DICOM files.

    Raises:
        UsageError: a pass undoes something else.
    """
    if all(weights.keys() == {Degradation.NOISE} for weights in map(_positive, passes)):
        return
    for job in plan.jobs:
        if job.dicom:
            raise UsageError(f"{shown(job.name)}: is DICOM, on which only --task denoise is allowed")


def _positive(weights: Weights) -> Weights:
    return {degradation: weight for degradation, weight in weights.items() if weight > 0}


def treat_dicom(
    job: Job,
    restorer: Restorer,
    choice: Choice,
    strength: float,
    options: DicomOptions,
    on_redo: Callable[[Redo], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Treatment:
    """Restore the file of a job, or leave it alone; writes nothing.

    Args:
        max_pixels: refuse files with more, all frames counted.

    Raises:
        ImageError: it should be restored and cannot be; holds nothing of the patient.
        DeviceError: as everywhere.
    """
    name = shown(job.source)
    try:
        return _treat(job, restorer, choice, strength, options, on_redo, max_pixels)
    except (PipcliError, MemoryError):
        raise
    except Exception as error:  # the words of any other error may quote a value
        raise ImageError(f"{name}: internal error: {type(error).__name__}") from None


def series_id(source: Path) -> str | None:
    """What tells the series of a file that failed, as in `Treatment`; None where that cannot be read."""
    series = series_of(source)
    return None if series is None else _hashed(series)


def incomplete_series(
    restored: Iterable[tuple[Path, str]], failed: Iterable[tuple[Path, str | None]]
) -> tuple[str, ...]:
    """Which restored series lack slices, a line each.

    Args:
        restored: files with the series they belong to.
        failed: files without output, with their series or None where it is not known: these count for the
            one series beside which they lie, if there is one.
    """
    whole: dict[str, list[Path]] = defaultdict(list)
    beside: dict[Path, set[str]] = defaultdict(set)
    for path, series in restored:
        whole[series].append(path)
        beside[path.parent].add(series)
    missing: dict[str, list[Path]] = defaultdict(list)
    for path, known in failed:
        near = beside.get(path.parent, set())
        series = known if known is not None else next(iter(near), "") if len(near) == 1 else ""
        if series in whole:
            missing[series].append(path)
    lines = []
    for series, paths in missing.items():
        # Not of how many: other shares and --skip-existing keep slices from our sight.
        folder = shown(whole[series][0].parent)
        lines.append(f"{folder}: a series is not whole: {len(paths)} missing: {_names(paths)}")
    return tuple(lines)


def divided_series(
    restored: Iterable[tuple[Path, str]], untouched: Iterable[tuple[Path, str]]
) -> tuple[str, ...]:
    """Which series were restored in part because the other slices show no noise, a line each.

    Args:
        restored, untouched: files with the series they belong to.
    """
    begun = {series for _, series in restored}
    clean: dict[str, list[Path]] = defaultdict(list)
    for path, series in untouched:
        if series in begun:
            clean[series].append(path)
    return tuple(
        f"{shown(paths[0].parent)}: a series was restored in part: {_slices(len(paths))} no noise and "
        f"{'stays' if len(paths) == 1 else 'stay'} in the old one (--task denoise restores all): "
        f"{_names(paths)}"
        for paths in clean.values()
    )


def _slices(count: int) -> str:
    return "1 slice shows" if count == 1 else f"{count} slices show"


def _names(paths: Sequence[Path]) -> str:
    names = ", ".join(shown(path.name) for path in paths[:_NAMED])
    return f"{names} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else names


def _treat(
    job: Job,
    restorer: Restorer,
    choice: Choice,
    strength: float,
    options: DicomOptions,
    on_redo: Callable[[Redo], None] | None,
    max_pixels: int,
) -> Treatment:
    wanted = options.window
    others = wanted is not None and not wanted.in_hounsfield
    image = read_dicom(job.source, others=others, max_pixels=max_pixels)
    if isinstance(image, LeftAlone):
        copied = options.copy_others and image.copyable
        return Treatment(whole_content(job.source) if copied else None, left_alone=image.reason)

    stored, windows = np.empty_like(image.stored), []
    notes = list(image.notes)
    if image.modality != "CT":
        notes.append(f"the model was not measured on {image.modality}")
    wanted = wanted or WindowChoice(AUTO)

    series = _hashed(str(image.dataset.SeriesInstanceUID))
    try:
        decision = choice.decide(telling_frame(image, wanted), (Degradation.NOISE,))
        if not decision.passes:
            return Treatment(whole_content(job.source), series=series, decision=decision)
        (omega,) = decision.omegas(restorer.degradations)

        def denoise(shown: NDArray[np.float32]) -> NDArray[np.float32]:
            return restorer.restore(Image(shown[..., None]), omega, on_redo=on_redo).pixels[..., 0]

        for frame in range(image.frames):
            values, padded = image.values(frame), image.padded(frame)
            window, note = _choose_window(image, frame, wanted)
            notes.extend([note] if note and note not in notes else [])
            if window is not None:
                values = restore_values(
                    values, padded, window, denoise, strength=strength, sigma=options.sigma
                )
            stored[frame] = image.store(frame, values)
            windows.append(str(window or "none"))
        data = encode_dicom(image, stored, windows, _derivation(wanted, restorer, strength, options))
    except ImageError as error:
        raise ImageError(f"{shown(job.source)}: {error}") from None
    return Treatment(data, series=series, notes=tuple(notes), decision=decision)


def telling_frame(image: DicomImage, wanted: WindowChoice) -> Image:
    """What a classifier is shown of a file: the frame in the middle, through the window."""
    frame = image.frames // 2
    window, _ = _choose_window(image, frame, wanted)
    # Without a window all values are equal, and so is what is shown.
    pixels = shown_in(image.values(frame), image.padded(frame), window or USUAL)
    return Image(pixels[..., None])


def _derivation(
    choice: WindowChoice, restorer: Restorer, strength: float, options: DicomOptions
) -> Derivation:
    return Derivation(
        model=options.model,
        model_sha256=options.model_sha256,
        window=choice.text,
        strength=strength,
        sigma=options.sigma,
        setting=f"{restorer.place} {restorer.precision} {restorer.tiling.tile}",
        drop_private=options.drop_private,
    )


def whole_content(source: Path) -> bytes:
    """Every byte of a file, whatever it is: what a copy of it holds.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImageError(f"{shown(source)}: cannot be read: {error.strerror or 'unknown'}") from None


def _choose_window(image: DicomImage, frame: int, choice: WindowChoice) -> tuple[Window | None, str | None]:
    """The window of a frame (None where all its pixels are equal), and what to say of it."""
    if choice.window is not None:
        return choice.window, None
    note = None
    if choice.text == AUTO:
        own = image.windows[frame]
        if own is not None:
            return own, None
        if image.modality == "CT":
            return USUAL, f"names no window, {USUAL} HU was used"
        note = "names no window, percentiles were used"
    return percentile_window(image.values(frame), image.padded(frame)), note


def _hashed(series: str) -> str:
    return hashlib.sha256(series.encode()).hexdigest()
