"""Drawn explanations: PNG that Pillow reads, the pictures in it, and the same bytes every time."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipcli.reports.prompts import Belief, ImageExplanation, PromptLevel, PromptMap, Restoration
from pipcli.reports.prompts_figure import image_figure, map_figure

pytest.importorskip("matplotlib", reason="matplotlib is not installed (pipcli[plots])")


def opened(data: bytes) -> np.ndarray:
    with PillowImage.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_every_picture_of_an_image_is_drawn():
    colours = [(0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9)]
    plain = [(np.full((20, 30, 3), colour, np.float32),) for colour in colours]
    explanation = ImageExplanation(
        "title",
        (),
        plain[0],
        (Restoration("denoise", 1.0, plain[1]), Restoration("derain", 2.0, plain[2])),
        (Belief("noise", 0.9), Belief("rain", 0.1)),
        20.0,
        0.5,
    )
    data = image_figure(explanation)
    drawn = opened(data)
    areas = [(np.abs(drawn / 255 - colour) < 0.01).all(axis=2).mean() for colour in colours]
    assert min(areas) > 0.1
    np.testing.assert_allclose(areas, areas[0], rtol=0.05)
    assert image_figure(explanation) == data


def test_a_map_has_a_row_for_each_level():
    points = np.random.default_rng(0).normal(size=(6, 2))
    angles = np.full((2, 2), 90.0) - 90 * np.eye(2)
    level = PromptLevel("level", points, (0.7, 0.2), angles)
    bare = PromptLevel("level", points, (0.7, 0.2), None)
    maps = [
        PromptMap("title", (), ("noise", "rain"), tuple("abcdef"), (0, 0, 0, 1, 1, 1), levels, ())
        for levels in ((level,), (level, bare))
    ]
    one, two = (opened(map_figure(each)) for each in maps)
    assert one.shape[1] == two.shape[1]
    assert 1.8 < two.shape[0] / one.shape[0] < 2.0
