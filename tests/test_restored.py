"""The page of restored files: what it holds, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from pages import Elements, body_in_browser, needs_browser, whole_without_network
from PIL import Image as PillowImage
from skimage.measure import block_reduce

from pipcli.images import Image
from pipcli.reports.restored import DETAIL, THUMBNAIL, FileRecord, RestoredReport, restored_page, views_of


def smooth(height: int, width: int, dtype: type = np.uint8, channels: int = 3) -> Image:
    rows, columns = np.mgrid[:height, :width]
    unit = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], axis=2)
    peak = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    return Image((unit[..., :channels] * peak).astype(dtype))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(data))).astype(float) / 255


@pytest.fixture
def report() -> RestoredReport:
    view = views_of(smooth(40, 60), smooth(40, 60))
    return RestoredReport(
        "Restored: <all>",
        (("model", "mine & yours"),),
        (
            FileRecord("in/<script>.png", "out/<script>.png", "restored", 1.5, ("a <b> note",), view),
            FileRecord("in/quo'te\".png", "out/x.png", "there already", 0.1, (), view),
            FileRecord("in/plain.png", "out/plain.png", "restored", 0.1),
            FileRecord("in/bad.png", "", "failed", 0.1, ("in/bad.png: is <empty>",)),
        ),
    )


def test_small_pictures_are_shown_as_they_are():
    (view,) = views_of(smooth(40, 60), smooth(40, 60, np.uint16))
    assert (view.width, view.height) == (60, 40)
    for data in (view.before, view.after):
        np.testing.assert_allclose(decoded(data), smooth(40, 60).crop_float(0, 40, 0, 60), atol=0.04)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_large_pictures_are_shown_whole_and_in_part(dtype):
    image = smooth(1100, 1500, dtype, 1 if dtype == np.uint16 else 3)
    whole, part = views_of(image, image)
    assert (whole.width, whole.height) == (500, 367)
    assert max(whole.width, whole.height) <= THUMBNAIL
    full = image.crop_float(0, 1100, 0, 1500)
    expected = block_reduce(full, (3, 3, 1), np.mean)[:366]  # the last row of blocks is not whole
    np.testing.assert_allclose(decoded(whole.before)[:366], expected, atol=0.03)
    assert (part.height, part.width) == DETAIL
    np.testing.assert_allclose(decoded(part.after), full[390:710, 510:990], atol=0.03)


def test_the_picture_that_is_long_and_thin():
    whole, part = views_of(smooth(3, 2000), smooth(3, 2000))
    assert (whole.width, whole.height, part.width, part.height) == (500, 1, 480, 3)


def test_the_page_is_whole_and_needs_no_network(report):
    page = restored_page(report)
    elements = whole_without_network(page)
    images = [attributes for tag, attributes in elements.tags if tag == "img"]
    assert len(images) == 4
    for attributes in images:
        _, data = str(attributes["src"]).split(",")
        assert decoded(base64.b64decode(data)).shape == (40, 60, 3)


def test_all_files_are_told_and_escaped(report):
    page = restored_page(report)
    assert "<script>.png" not in page
    elements = Elements(page)
    for text in (
        "Restored: <all>",
        "mine & yours",
        "in/<script>.png",
        "a <b> note",
        "in/bad.png: is <empty>",
    ):
        assert text in elements.text
    assert [a["data-name"] for t, a in elements.tags if t == "tr" and a] == [
        "in/<script>.png",
        "in/quo'te\".png",
        "in/plain.png",
        "in/bad.png",
    ]
    assert "1 more restored files" in elements.text


def test_the_same_report_gives_the_same_page(report):
    assert restored_page(report) == restored_page(report)


PROBE = """
  const look = (key, value) => { document.body.dataset[key] = value; };
  const box = document.querySelector(".compare");
  const slider = box.querySelector("input");
  const edge = () => getComputedStyle(box.querySelector(".after")).clipPath;
  look("middle", edge());
  slider.value = 10;
  slider.dispatchEvent(new Event("input"));
  look("moved", edge());
  look("other", getComputedStyle(document.querySelectorAll(".after")[1]).clipPath);
  const area = box.getBoundingClientRect();
  const hit = document.elementFromPoint(area.left + area.width / 2, area.top + area.height / 2);
  look("reachable", hit === slider);
  look("loaded", [...document.images].every((image) => image.complete && image.naturalWidth === 60));
  look("wide", document.documentElement.scrollWidth <= window.innerWidth);
  const shown = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden).length;
  look("all", shown());
  document.querySelector("[value=failed]").click();
  look("unfailed", shown());
  const search = document.querySelector("[type=search]");
  search.value = "PLAIN";
  search.dispatchEvent(new Event("input", {bubbles: true}));
  look("found", shown());
"""


@needs_browser
def test_sliders_and_filters_work_in_a_browser(report, tmp_path: Path):
    body = body_in_browser(restored_page(report), PROBE, tmp_path)
    assert {key.removeprefix("data-"): value for key, value in body.items()} == {
        "ready": "yes",
        "middle": "inset(0px 0px 0px 50%)",
        "moved": "inset(0px 0px 0px 10%)",
        "other": "inset(0px 0px 0px 50%)",
        "reachable": "true",
        "loaded": "true",
        "wide": "true",
        "all": "4",
        "unfailed": "3",
        "found": "1",
    }
