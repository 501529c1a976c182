"""The demo: its photographs are there, its degradations fixed and fitting, its pictures written and true."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn

from pipcli.cli import main
from pipcli.cli.demo import (
    HEIGHT,
    SCENES,
    WIDTH,
    degrade_scene,
    draw_outcomes,
    load_photo,
    photo_folder,
    restore_scenes,
)
from pipcli.degradations import TASKS, Degradation
from pipcli.images import Image, read_image
from pipcli.inference.device import Precision
from pipcli.inference.engine import Restorer
from pipcli.models.checkpoint import save_weights
from pipcli.models.unet import UNet, UNetConfig


class Darker(nn.Module):
    """A model whose work is known: half the light, whatever ω says."""

    stride = 1
    degradations = tuple(Degradation)

    def forward(self, x: Tensor, omega: Tensor) -> Tensor:
        return x / 2


@pytest.fixture
def restorer() -> Restorer:
    return Restorer(Darker(), torch.device("cpu"), Precision.FP32)


def test_each_task_has_one_scene():
    assert [scene.task for scene in SCENES] == list(TASKS)
    assert len({scene.photo for scene in SCENES}) == len(TASKS)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.task)
def test_photographs_are_cut_to_size_without_distortion(scene):
    left, top, right, bottom = scene.box
    assert (right - left) * HEIGHT == (bottom - top) * WIDTH
    photo = load_photo(scene, photo_folder())
    assert photo.pixels.shape[:2] == (HEIGHT, WIDTH)
    assert photo.pixels.std() > 20


# What the input may be worth: clearly bad, clearly not lost.
WORTH = {"denoise": (19, 22), "derain": (17, 26), "dehaze": (10, 18), "deblur": (21, 30), "enhance": (6, 12)}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.task)
def test_degradations_are_repeatable_and_of_middling_strength(scene):
    clean = load_photo(scene, photo_folder())
    degraded = degrade_scene(scene, clean)
    np.testing.assert_array_equal(degraded.pixels, degrade_scene(scene, clean).pixels)
    low, high = WORTH[scene.task]
    assert low < peak_signal_noise_ratio(clean.pixels, degraded.pixels) < high


def test_files_hold_what_the_outcomes_say(tmp_path, restorer):
    outcomes = list(restore_scenes(restorer, photo_folder(), tmp_path))
    for outcome in outcomes:
        task = outcome.scene.task
        degraded, restored = (read_image(tmp_path / f"{task}-{s}.png") for s in ("degraded", "restored"))
        np.testing.assert_array_equal(degraded.pixels, degrade_scene(outcome.scene, outcome.clean).pixels)
        # What is affine in hazy skies leaves out what is fainter than a step.
        np.testing.assert_allclose(restored.pixels, degraded.pixels / 2, atol=1)
        expected = peak_signal_noise_ratio(outcome.clean.pixels, restored.pixels)
        assert outcome.restored_psnr == pytest.approx(expected, abs=1e-4)
    sheet = draw_outcomes(outcomes)
    assert isinstance(sheet, Image)
    assert sheet.width > 3 * WIDTH
    assert sheet.height > 5 * HEIGHT


def test_the_command_writes_all_pictures_and_prints_a_table(tmp_path, capsys):
    weights, out = tmp_path / "tiny.safetensors", tmp_path / "demo"
    torch.manual_seed(0)
    save_weights(UNet(UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(None,))), weights, {})

    assert main(["demo", str(out), "--model", str(weights), "--device", "cpu"]) == 0
    expected = {f"{task}-{state}.png" for task in TASKS for state in ("degraded", "restored")} | {"sheet.png"}
    assert {path.name for path in out.iterdir()} == expected
    printed = capsys.readouterr()
    table = printed.out.splitlines()[: 1 + len(TASKS)]
    assert [line.split()[0] for line in table] == ["task", *TASKS]
    assert max(map(len, table)) <= 80
    assert "tiny.safetensors on cpu" in printed.err

    sheet = (out / "sheet.png").read_bytes()
    (out / "sheet.png").write_bytes(b"mine")
    assert main(["demo", str(out), "--model", str(weights), "--device", "cpu"]) == 2
    assert "sheet.png: is there already; --overwrite" in capsys.readouterr().err
    assert (out / "sheet.png").read_bytes() == b"mine"
    assert main(["demo", "--overwrite", str(out), "--model", str(weights), "--device", "cpu"]) == 0
    assert (out / "sheet.png").read_bytes() == sheet


def test_without_scikit_image_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo", str(tmp_path)]) == 2
    assert "pipcli[demo]" in capsys.readouterr().err


def test_a_file_in_the_folders_place_is_refused(tmp_path, capsys):
    file = tmp_path / "demo"
    file.write_text("mine")
    assert main(["demo", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == "mine"
