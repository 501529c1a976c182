"""The explanations of `prompts` as one HTML file each, self-contained and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipcli.reports.benchmark import Case
from pipcli.reports.benchmark_page import draw_case
from pipcli.reports.page import self_contained_page
from pipcli.reports.prompts import ImageExplanation, PromptLevel, PromptMap
from pipcli.reports.scatter import Dot, draw_scatter


def image_page(explanation: ImageExplanation) -> str:
    """One image under each ω as one HTML file."""
    return self_contained_page(explanation.title, "benchmark", _image_body(explanation), more="prompts")


def map_page(prompts: PromptMap) -> str:
    """The prompts of many images as one HTML file."""
    return self_contained_page(prompts.title, "benchmark", _map_body(prompts), more="prompts")


def _facts(facts: tuple[tuple[str, str], ...]) -> str:
    lines = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f"<dl class=facts>{lines}</dl>"


def _image_body(explanation: ImageExplanation) -> Iterator[str]:
    yield _facts(explanation.facts)
    yield f"<section><h2>The classifier's view <small>{escape(explanation.verdict)}</small></h2>"
    yield "<table class=beliefs><tbody>"
    for belief in explanation.beliefs:
        kind = "" if belief.probability >= explanation.threshold else " class=absent"
        yield (
            f"<tr{kind}><th>{escape(belief.degradation)}</th>"
            f"<td><span class=bar><i style='width:{100 * belief.probability:.1f}%'></i>"
            f"<b style='left:{100 * explanation.threshold:.1f}%'></b></span></td>"
            f"<td>{100 * belief.probability:.1f} %</td></tr>"
        )
    yield "</tbody></table>"
    yield f"<p class=note>Each probability stands for itself; the mark, {100 * explanation.threshold:g} %, is"
    yield "where a degradation counts as there. Noise is estimated at a standard deviation of"
    yield f"{explanation.sigma:.1f} of 255.</p></section>"
    yield "<section><h2>One input, one model, another ω each time</h2>"
    yield "<p class=note>Only ω changes, from one degradation alone to the next.</p>"
    for title, views in explanation.rows():
        yield draw_case(Case(title, views))
    yield "</section>"


def _map_body(prompts: PromptMap) -> Iterator[str]:
    yield _facts(prompts.facts)
    yield "<p class=note>Each dot is an image: its universal prompt U, made of its features and of the ω of"
    yield "its degradation alone, in the plane in which these prompts differ most (principal components)."
    yield "Degradation-aware prompts do not depend on images; training drives them apart until the angles"
    yield "between them are 90 degrees.</p>"
    for level in prompts.levels:
        yield f"<section><h2>{escape(level.title)}</h2><div class=level>"
        yield _draw_points(prompts, level)
        if level.angles is not None:
            yield _angle_table(prompts.degradations, level.angles)
        yield "</div></section>"
    yield "<section><h2>What the classifier takes them for</h2><table><thead>"
    yield "<tr><th>degradation</th><th>images</th><th class=text>taken for</th></tr></thead><tbody>"
    for opinion in prompts.opinions:
        found = ", ".join(f"{name} {count}" for name, count in opinion.found)
        yield f"<tr><th>{escape(opinion.degradation)}</th><td>{opinion.images}</td>"
        yield f"<td class=text>{escape(found)}</td></tr>"
    yield "</tbody></table></section>"


def _draw_points(prompts: PromptMap, level: PromptLevel) -> str:
    dots = [
        Dot(float(x), float(y), kind, f"{name}: {prompts.degradations[kind]}")
        for (x, y), kind, name in zip(level.points, prompts.kinds, prompts.names, strict=True)
    ]
    labels = [
        f"component {i}, {100 * share:.1f} % of the variance" for i, share in enumerate(level.shares, 1)
    ]
    return draw_scatter(dots, prompts.degradations, *labels, about=f"universal prompts, {level.title}")


def _angle_table(names: tuple[str, ...], angles: NDArray[np.floating[Any]]) -> str:
    """Angles as a table whose cells are the fainter the nearer two prompts are."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, row in zip(names, angles, strict=True):
        cells = "".join(
            f"<td style='--share:{min(angle, 90) / 90:.2f}'>{angle:.0f}°</td>" for angle in row.tolist()
        )
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        "<figure class=angles><table><thead><tr><td></td>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "<figcaption>angles between degradation-aware prompts</figcaption></figure>"
    )
