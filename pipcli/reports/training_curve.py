"""The validation curve of a training run, drawn by matplotlib from the run's log."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipcli.errors import UsageError
from pipcli.reports.figures import COLOURS, png_of

_COLUMNS = 5
_PANEL = (2.3, 1.7)
"""Width and height of a panel in inches."""
_DPI = 90


@dataclass(frozen=True)
class Validation:
    """What a run's log has of one validation.

    Attributes:
        minutes: of training before it.
        learning_rate: of the step before it.
        scores: by name; of a restoration model mean PSNR in dB, and ``mean`` among them.
    """

    minutes: float
    learning_rate: float
    scores: dict[str, float]


def read_log(path: Path) -> list[Validation]:
    """The validations of a ``log.jsonl``, in their order.

    Raises:
        UsageError: the file is missing or empty, or a line of it is not one of a run's log.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no log of a training run can be read there ({error})") from None
    if not lines:
        raise UsageError(f"{path}: the run has not been validated yet")
    validations = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            scores = {str(name): float(value) for name, value in entry["validation"].items()}
            validations.append(Validation(float(entry["minutes"]), float(entry["learning_rate"]), scores))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{path}: line {number} is not one of a training run's log") from None
    return validations


def curve_figure(validations: Sequence[Validation], title: str) -> bytes:
    """A PNG file with a panel for each score over the minutes, and one for the learning rate.

    A score that began later, as when validation grew while a run was stopped, begins later in its panel.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for each in validations for name in each.scores))
    names.sort(key=lambda name: name != "mean")
    rows = math.ceil((len(names) + 1) / _COLUMNS)
    size = (_COLUMNS * _PANEL[0], rows * _PANEL[1] + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes, name in zip(panels, names, strict=False):
        points = [(each.minutes, each.scores[name]) for each in validations if name in each.scores]
        axes.plot(*zip(*points, strict=True), ".-", color=COLOURS[0], markersize=4, linewidth=1)
        axes.set_title(f"{name}: {points[-1][1]:.4g}", fontsize=9)
    minutes = [each.minutes for each in validations]
    rate = panels[len(names)]
    rate.plot(minutes, [each.learning_rate for each in validations], ".-", color=COLOURS[1], markersize=4)
    rate.set_title("learning rate", fontsize=9)
    for axes in panels[: len(names) + 1]:
        axes.set_xlim(0, max(minutes))
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    for axes in panels[len(names) + 1 :]:
        axes.set_axis_off()
    unit = ", PSNR in dB" if "mean" in names else ""
    figure.suptitle(f"{title}: held-out images{unit}, over minutes of training", fontsize=10)
    return png_of(figure, _DPI)
