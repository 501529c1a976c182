"""``pipcli explain`` from end to end, with models of random weights."""

import importlib
import os
import re
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from standins import write_weights

from pipcli.cli import main
from pipcli.cli.explain import degradation_of_folder
from pipcli.degradations import Degradation
from pipcli.models.checkpoint import save_weights
from pipcli.models.classifier import Classifier, ClassifierConfig
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> tuple[Path, Path]:
    """A prompted model and a classifier."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = UNet(UNetConfig(widths=(8, 16), blocks=(1, 1), prompts=(PromptConfig(8, 6),)))
    classifier = Classifier(ClassifierConfig(size=32, crops=2, widths=(8, 8), depth=1, features=8))
    torch.nn.init.constant_(classifier.head.bias, -9.0)  # takes everything for clean
    save_weights(model, folder / "model.safetensors", {}, torch.float32)
    save_weights(classifier, folder / "classifier.safetensors", {}, torch.float32)
    return folder / "model.safetensors", folder / "classifier.safetensors"


def run(weights: tuple[Path, Path], *words: str | Path) -> int:
    fixed = ["--device", "cpu", "--precision", "fp32"]
    model, classifier = map(str, weights)
    return main(["explain", *map(str, words), "--model", model, "--classifier", classifier, *fixed])


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 56)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(path)
    return path


def test_an_image_becomes_a_page(weights, tmp_path, capsys):
    source, target = write_picture(tmp_path / "a.png"), tmp_path / "new" / "a.html"
    assert run(weights, source, target) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"pipcli: written: {target}")
    page = target.read_text(encoding="utf-8")
    for task in ("denoise", "derain", "dehaze", "deblur", "enhance"):
        assert f"{task}: changes" in page
    assert page.count("<img") == 6
    assert "56×40" in page


def test_a_very_narrow_image_is_drawn_no_higher_than_a_page(weights, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pipcli[plots])")
    source = write_picture(tmp_path / "a.png", size=(600, 2))
    assert run(weights, source, tmp_path / "a.png.png") == 0
    with PillowImage.open(tmp_path / "a.png.png") as drawn:
        assert drawn.height < 9000


def test_a_large_image_is_shown_whole_and_in_part(weights, tmp_path):
    source = write_picture(tmp_path / "a.png", size=(40, 600))
    assert run(weights, source, tmp_path / "a.html") == 0
    assert (tmp_path / "a.html").read_text(encoding="utf-8").count("<img") == 12


def test_a_folder_becomes_a_map(weights, tmp_path, capsys):
    folder = tmp_path / "photos"
    for index in range(3):
        write_picture(folder / "noise" / f"{index}.png", index)
        write_picture(folder / "Rain" / "deep" / f"{index}.png", index + 9)
    write_picture(folder / "clean.png")
    (folder / "noise" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert run(weights, folder, tmp_path / "map.html") == 3
    captured = capsys.readouterr()
    assert "bad.png" in captured.err
    assert "left out: 1 of 8 images, which the classifier takes for clean" in captured.err
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert re.findall(r"circle class=(s\d)", page) == ["s1"] * 3 + ["s0"] * 3
    assert "6 in the map, 1 clean left out, 1 failed" in page
    assert "clean 3" in page


def test_what_a_map_leaves_alone_is_told(weights, tmp_path, capsys):
    folder = tmp_path / "noise"
    for index in range(3):
        write_picture(folder / f"{index}.png", index)
    for name in (".hidden.png", "a.heic", "notes.txt"):
        (folder / name).write_bytes(b"")
    (folder / "slice").write_bytes(bytes(128) + b"DICM")
    assert run(weights, folder, tmp_path / "map.html") == 0
    told = "left alone: 1 of formats that are not read (1 .heic), 1 hidden, 1 no image, 1 DICOM\n"
    assert told in capsys.readouterr().err
    assert run(weights, folder / "slice", tmp_path / "slice.html") == 4
    assert "is DICOM, whose values are no colours: pipcli restore --task denoise" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_has_failed(weights, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "noise"
    for index in range(3):
        write_picture(folder / f"{index}.png", index)
    (folder / "secret").mkdir()
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "secret":
            raise PermissionError
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert run(weights, folder, tmp_path / "map.html") == 3
    assert f"error: {folder / 'secret'}: cannot be listed" in capsys.readouterr().err


def test_of_many_images_it_is_told_how_many_are_taken(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("pipcli.cli.explain"), "MOST", 4)
    for index in range(6):
        write_picture(tmp_path / "noise" / f"{index}.png", index)
    assert run(weights, tmp_path / "noise", tmp_path / "map.html") == 0
    assert "taken: 3 of 6 images, spread evenly" in capsys.readouterr().err


def test_degradations_that_a_model_does_not_know_are_left_out_of_its_map(weights, tmp_path, capsys):
    _, classifier = weights
    denoiser = tmp_path / "denoiser.safetensors"
    config = UNetConfig(
        widths=(8, 16), blocks=(1, 1), prompts=(PromptConfig(8, 6),), degradations=(Degradation.NOISE,)
    )
    save_weights(UNet(config), denoiser, {}, torch.float32)
    for index in range(3):
        write_picture(tmp_path / "in" / "noise" / f"{index}.png", index)
    write_picture(tmp_path / "in" / "blur" / "0.png")
    assert run((denoiser, classifier), tmp_path / "in", tmp_path / "map.html") == 0
    assert (
        "left out: 1 of 4 images, whose degradation the model was not trained for" in capsys.readouterr().err
    )
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "3 in the map, 0 clean left out, 1 of other degradations left out, 0 failed" in page


@pytest.mark.parametrize("folder", [False, True])
def test_png_is_drawn(weights, tmp_path, folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pipcli[plots])")
    for index in range(3):
        write_picture(tmp_path / "haze" / f"{index}.png", index)
    source = tmp_path / "haze" if folder else tmp_path / "haze" / "0.png"
    assert run(weights, source, tmp_path / "out.png") == 0
    with PillowImage.open(tmp_path / "out.png") as drawn:
        assert drawn.width > 1000


def test_nothing_is_replaced_without_asking(weights, tmp_path, capsys):
    source = write_picture(tmp_path / "a.png")
    before = source.read_bytes()
    (tmp_path / "b.html").write_text("mine")
    assert run(weights, source, source) == 2
    assert run(weights, source, source, "--overwrite") == 2
    assert run(weights, source, tmp_path / "b.html") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (source.read_bytes(), (tmp_path / "b.html").read_text()) == (before, "mine")
    assert run(weights, source, tmp_path / "b.html", "--overwrite") == 0
    assert "mine" not in (tmp_path / "b.html").read_text(encoding="utf-8")[:4]


def test_wrong_requests_are_one_line(weights, tmp_path, capsys):
    source = write_picture(tmp_path / "noise" / "a.png")
    bare = write_weights(tmp_path / "bare.safetensors")
    for words, code, reason in (
        ((source, tmp_path / "a.txt"), 2, "neither an .html page nor a .png picture"),
        ((tmp_path / "none", tmp_path / "a.html"), 2, "no such file or folder"),
        ((tmp_path / "noise", tmp_path / "a.html"), 2, "holds 1 degraded images, a map needs at least 3"),
        ((tmp_path / "noise", tmp_path / "a.html", "--model", bare), 2, "no prompts"),
    ):
        model = [word for word in words if word != "--model"]
        if bare in words:
            assert run((bare, weights[1]), *model[:2]) == code
        else:
            assert run(weights, *words) == code
        captured = capsys.readouterr()
        assert reason in captured.err
        assert captured.err.count("\n") == 1
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert run(weights, tmp_path / "bad.png", tmp_path / "a.html") == 4
    assert not (tmp_path / "a.html").exists()


def test_several_pages_are_refused(weights, tmp_path, capsys):
    pages = [PillowImage.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    assert run(weights, tmp_path / "two.tif", tmp_path / "a.html") == 4
    assert "has 2 pages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("noise/a.png", Degradation.NOISE),
        ("noise/rain/a.png", Degradation.RAIN),
        ("LowLight/deep/a.png", Degradation.LOWLIGHT),
        ("noisy/a.png", None),
        ("noise.png", None),
    ],
)
def test_the_nearest_folder_names_the_degradation(tmp_path, path, expected):
    assert degradation_of_folder(tmp_path, PurePath(path)) is expected
    assert degradation_of_folder(tmp_path / "haze", PurePath("a.png")) is Degradation.HAZE
