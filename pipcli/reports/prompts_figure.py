"""The explanations of `prompts` as PNG, drawn by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipcli.reports.figures import COLOURS, png_of
from pipcli.reports.prompts import ImageExplanation, PromptMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FAINT = "#77777d"
_PANEL = 3.4
"""Width of a picture in inches."""
_TALLEST = 4.0
"""Height of a picture by its width, at most: what is narrower than that stays narrower than its place."""
_DPI = 150


def image_figure(explanation: ImageExplanation) -> bytes:
    """One image under each ω as a PNG file: rows of pictures, and the classifier's view."""
    from matplotlib.figure import Figure

    rows = explanation.rows()
    columns = len(rows[0][1])
    shapes = [views[0].pixels.shape for _, views in rows]
    heights = [_PANEL * min(shape[0] / shape[1], _TALLEST) for shape in shapes]
    bars = 0.32 * len(explanation.beliefs)
    figure = Figure(
        figsize=(columns * _PANEL, sum(heights) + 0.4 * len(rows) + bars + 1.3), layout="constrained"
    )
    grid = figure.add_gridspec(len(rows) + 1, columns, height_ratios=[*heights, bars])
    for index, (_, views) in enumerate(rows):
        for column, view in enumerate(views):
            axes = figure.add_subplot(grid[index, column])
            axes.imshow(np.clip(view.pixels, 0, 1), interpolation="nearest")
            axes.set_title(view.caption, fontsize=10)
            axes.set_axis_off()
    _draw_beliefs(figure.add_subplot(grid[-1, : min(3, columns)]), explanation)
    figure.suptitle(explanation.title)
    return png_of(figure, _DPI)


def _draw_beliefs(axes: Axes, explanation: ImageExplanation) -> None:
    beliefs = explanation.beliefs[::-1]
    present = [belief.probability >= explanation.threshold for belief in beliefs]
    axes.barh(
        [belief.degradation for belief in beliefs],
        [100 * belief.probability for belief in beliefs],
        color=[COLOURS[0] if there else _FAINT for there in present],
    )
    axes.axvline(100 * explanation.threshold, color="black", linewidth=1)
    axes.set_xlim(0, 100)
    axes.set_title(
        f"the classifier's view in %: {explanation.verdict}; noise of {explanation.sigma:.1f} of 255",
        fontsize=10,
    )


def map_figure(prompts: PromptMap) -> bytes:
    """The prompts of many images as a PNG file: a row a level, the plane left and the angles right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6 * len(prompts.levels) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(prompts.levels), 2, width_ratios=(3, 2))
    kinds = np.array(prompts.kinds)
    for index, level in enumerate(prompts.levels):
        axes = figure.add_subplot(grid[index, 0])
        for kind, name in enumerate(prompts.degradations):
            points = level.points[kinds == kind]
            if len(points):
                axes.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=14,
                    alpha=0.7,
                    color=COLOURS[kind % len(COLOURS)],
                    label=name,
                )
        first, second = (f"{100 * share:.1f} % of the variance" for share in level.shares)
        axes.set(title=level.title, xlabel=f"component 1, {first}", ylabel=f"component 2, {second}")
        axes.legend(fontsize=8)
        if level.angles is not None:
            axes = figure.add_subplot(grid[index, 1])
            axes.imshow(level.angles, cmap="Blues", vmin=0, vmax=180)
            ticks = range(len(prompts.degradations))
            axes.set_xticks(ticks, prompts.degradations, fontsize=8)
            axes.set_yticks(ticks, prompts.degradations, fontsize=8)
            for row in ticks:
                for column in ticks:
                    axes.text(
                        column, row, f"{level.angles[row, column]:.0f}°", ha="center", va="center", fontsize=8
                    )
            axes.set_title("angles between degradation-aware prompts", fontsize=10)
    figure.suptitle(prompts.title)
    return png_of(figure, _DPI)
