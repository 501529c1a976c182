"""`pipcli eval --suite classify` as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pipcli.cli import main
from pipcli.models.checkpoint import save_weights
from pipcli.models.classifier import Classifier, ClassifierConfig


@pytest.fixture
def run(tmp_path, capsys):
    numbers = np.random.default_rng(0)
    for folder in ("CBSD68", "Rain100L/input", "Rain100L/target"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(2):
            pixels = numbers.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            PillowImage.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    save_weights(Classifier(ClassifierConfig(size=32, widths=(8, 16), depth=1, features=8)), weights, {})

    def run(*options: str):
        fixed = ["--data-root", str(tmp_path), "--method", str(weights), "--device", "cpu"]
        code = main(["eval", "--suite", "classify", *fixed, *options])
        return code, *capsys.readouterr()

    return run


def test_tables_of_both_forms_and_of_sigma(run):
    code, out, err = run()
    assert code == 0
    assert "Images as they are" in out
    assert "Images all 600×400, JPEG 90" in out
    assert out.count("clean images taken as clean:") == out.count("calibration error") == 2
    assert "median estimate" in out
    assert "SOTS-indoor: not measured, the set is not there" in out
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80


def test_json_has_every_image_and_then_the_figures(run):
    code, out, _ = run("--json", "--limit", "1")
    assert code == 0
    *images, figures = (json.loads(line) for line in out.splitlines())
    # A true image, three levels of noise, a rainy image and its truth, each in two forms.
    assert len(images) == 2 * (1 + 3 + 2)
    assert set(images[0]["probabilities"]) == {"noise", "rain", "haze", "blur", "lowlight"}
    assert {level["sigma"] for level in figures["levels"]} == {5, 10, 15, 25, 50}
    assert figures["missing"] == ["SOTS-indoor", "GoPro-like", "LOL"]


@pytest.mark.parametrize(
    "options",
    [
        ("--out", "x"),
        ("--save-images", "x"),
        ("--precision", "fp32"),
        ("--protocol", "airnet"),
        ("--true-omega",),
        ("--tile", "512"),
    ],
    ids=lambda options: options[0],
)
def test_what_it_does_not_do_is_refused(run, options):
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert f"{options[0]} is not for --suite classify" in err


def test_a_restoration_model_is_no_classifier(run):
    code, _, err = run("--method", "pip-unet")
    assert code != 0
    assert "pip-unet" in err
