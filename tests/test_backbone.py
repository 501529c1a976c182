"""Prompts shared by the tiles of an image: the tiled result is that of the whole image."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipcli.models.backbone import PromptSurvey, resize_matrix
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig


@pytest.mark.parametrize(("length", "size"), [(203, 16), (16, 203), (5, 32), (32, 32), (1, 8), (8, 1)])
def test_resize_matrix_is_torchs_bilinear_resize(length: int, size: int) -> None:
    line = torch.rand(1, 1, length, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(line, size=size, mode="linear", align_corners=False)
    torch.testing.assert_close(line @ resize_matrix(length, size, line.device).T, expected)


def _randomised_unet() -> UNet:
    torch.manual_seed(0)
    prompts = (PromptConfig(16, 32), None, PromptConfig(32, 8))
    model = UNet(UNetConfig(widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), prompts=prompts)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("width", [200, 203])
def test_tiles_with_shared_prompts_equal_the_whole_image(width: int) -> None:
    model = _randomised_unet()
    height, halo = 192, 72
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    omega = torch.tensor([[0.5, 0.0, 0.5, 0.0, 0.0]])
    tiles = []
    for y0, y1 in ((0, 96), (96, height)):
        for x0, x1 in ((0, 104), (104, width)):
            top, left = max(0, y0 - halo), max(0, x0 - halo)
            bottom, right = min(height, y1 + halo), min(width, x1 + halo)
            tiles.append((image[..., top:bottom, left:right], top, left, (y0, y1, x0, x1)))

    with torch.no_grad():
        whole = model(image, omega)
        survey = PromptSurvey(model, omega, height, width)
        for tile in tiles:
            survey.add_features(*tile)
        survey.make_universal()
        for tile in tiles:
            survey.add_products(*tile)
        prompts = survey.finish()
        shared, alone = torch.empty_like(image), torch.empty_like(image)
        for x, top, left, (y0, y1, x0, x1) in tiles:
            core = (..., slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            shared[..., y0:y1, x0:x1] = model.restore_tile(x, prompts, top, left)[core]
            alone[..., y0:y1, x0:x1] = model(x, omega)[core]
    torch.testing.assert_close(shared, whole, atol=2e-5, rtol=0)
    # Without sharing the tiles differ visibly: the comparison above could fail.
    assert (alone - whole).abs().max() > 1e-3


def test_a_bare_model_needs_no_survey() -> None:
    assert not UNet(UNetConfig(widths=(4, 8), blocks=(1, 1), prompts=(None,))).prompted
    assert _randomised_unet().prompted
