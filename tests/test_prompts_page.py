"""Pages of explanations: whole, escaped, in need of nothing else, and zoomed together in a browser."""

import re

import numpy as np
import pytest
from pages import Elements, body_in_browser, needs_browser, whole_without_network

from pipcli.reports.prompts import Belief, ImageExplanation, Opinion, PromptLevel, PromptMap, Restoration
from pipcli.reports.prompts_page import image_page, map_page


@pytest.fixture
def explanation() -> ImageExplanation:
    rng = np.random.default_rng(0)
    parts = tuple(rng.random((24, 32, 3)).astype(np.float32) for _ in range(2))
    return ImageExplanation(
        "of <me>",
        (("input", "a & b"),),
        parts,
        tuple(Restoration(task, 3.5, parts) for task in ("denoise", "derain", "dehaze", "deblur", "enhance")),
        (Belief("noise", 0.912), Belief("rain", 0.034)),
        24.6,
        0.5,
    )


@pytest.fixture
def prompts() -> PromptMap:
    angles = np.array([[0.0, 91.7], [91.7, 0.0]])
    points = np.array([[1.0, 2.0], [-3.0, 1.0], [2.0, -4.0]])
    return PromptMap(
        "map of <all>",
        (("input", "x"),),
        ("noise", "rain"),
        ("a/<1>.png", "2.png", "3.png"),
        (0, 1, 1),
        (PromptLevel("first", points, (0.8, 0.15), angles), PromptLevel("second", points, (0.6, 0.3), None)),
        (Opinion("noise", 1, (("noise", 1),)), Opinion("rain", 2, (("rain", 1), ("clean", 1)))),
    )


def test_pages_are_whole_and_need_no_network(explanation, prompts):
    for page in (image_page(explanation), map_page(prompts)):
        whole_without_network(page)
        assert not re.search(r"<(me|all|1)>", page)


def test_an_image_has_its_pictures_and_the_classifiers_view(explanation):
    elements = Elements(image_page(explanation))
    assert sum(tag == "img" for tag, _ in elements.tags) == 12
    for text in ("of <me>", "a & b", "noise", "91.2 %", "24.6 of 255", "dehaze: changes 3.5 of 255"):
        assert text in elements.text
    # What is not there is told apart from what is.
    assert [attributes.get("class") for tag, attributes in elements.tags if tag == "tr"] == [None, "absent"]


def test_a_map_has_its_dots_angles_and_opinions(prompts):
    elements = Elements(map_page(prompts))
    assert [a["class"] for tag, a in elements.tags if tag == "circle"] == ["s0", "s1", "s1"] * 2
    assert elements.text.count("92°") == 2  # the level without such prompts has no table
    for text in ("a/<1>.png: noise", "component 1, 80.0 % of the variance", "rain 1, clean 1"):
        assert text in elements.text


@needs_browser
def test_pictures_zoom_together_in_a_browser(explanation, tmp_path):
    probe = """
      const slider = document.querySelector(".case input");
      slider.value = 4;
      slider.dispatchEvent(new Event("input"));
      const look = (box) => [...box.querySelectorAll("img")].map((img) => img.style.transform).join("|");
      document.body.dataset.first = look(document.querySelectorAll(".case")[0]);
      document.body.dataset.wide = document.documentElement.scrollWidth <= window.innerWidth;
    """
    body = body_in_browser(image_page(explanation), probe, tmp_path)
    assert body["data-ready"] == "yes"
    assert body["data-first"] == "|".join(["scale(4) translate(-37.5%, -37.5%)"] * 6)
    assert body["data-wide"] == "true"
