"""What every backbone holds; prompts shared by the tiles of an image give what the whole image gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from backbones import MIX, NAFNET, RESTORMER, TOLD, UNET, dead_parameters, image, psnr, randomised
from torch import nn
from torch.nn import functional as F

from pipcli.degradations import Degradation
from pipcli.models.backbone import PromptSurvey, resize_matrix
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig


@pytest.fixture(params=[UNET, TOLD, NAFNET, RESTORMER], ids=["unet", "told", "nafnet", "restormer"])
def backbone(request):
    return request.param


@pytest.fixture
def model(backbone) -> nn.Module:
    return randomised(backbone.architecture, backbone.tiny)


@pytest.fixture
def bare(backbone) -> nn.Module:
    return randomised(backbone.architecture, backbone.bare)


def test_with_a_mixed_omega_every_parameter_learns(model):
    assert dead_parameters(model, image(20, 12), MIX) == []


def test_every_parameter_of_the_bare_net_learns(bare):
    assert dead_parameters(bare, image(20, 12), MIX) == []


def test_the_mix_of_omega_acts_and_its_scale_does_not(model):
    """But for the LayerNorms' eps, which test_pip.py looks at closely."""
    x = image(24, 16)
    with torch.no_grad():
        y = model(x, MIX)
        by_mix = (model(x, MIX.flip(0)) - y).square().mean().sqrt()
        by_scale = (model(x, 5 * MIX) - y).square().mean().sqrt()
    assert by_mix > 1e-3
    assert by_scale < 0.01 * by_mix


def test_the_bare_net_ignores_omega(bare):
    x = image(16, 16)
    with torch.no_grad():
        assert torch.equal(bare(x, MIX), bare(x, MIX.flip(0)))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (3, 2), (17, 9)])
def test_any_size_comes_back_as_the_corner_of_the_padded_image(model, height, width):
    x = image(height, width)
    rows = padded_indices(height, -height % model.stride)
    columns = padded_indices(width, -width % model.stride)
    with torch.no_grad():
        y = model(x, MIX)
        whole = model(x[:, :, rows][..., columns], MIX)
    assert y.shape == x.shape
    assert y.isfinite().all()
    torch.testing.assert_close(y, whole[..., :height, :width])


def padded_indices(length: int, more: int) -> list[int]:
    """Indices that mirror a side and, where it is too short, go on repeating the last one."""
    return [*range(length), *(max(0, length - 1 - step) for step in range(1, more + 1))]


def test_what_lies_outside_0_to_1_reaches_the_network_and_leaves_it(model):
    x = 4 * image(16, 16) - 1.5
    clamped = x.clamp(0, 1)
    with torch.no_grad():
        change, of_clamped = model(x, MIX) - x, model(clamped, MIX) - clamped
        assert (change - of_clamped).abs().max() > 0.01
        for parameter in model.tail.parameters():
            parameter.zero_()
        assert torch.equal(model(x, MIX), x)


def test_channels_last_changes_nothing_but_rounding(model):
    x = image(40, 24)
    with torch.no_grad():
        y = model(x, MIX)
        model.to(memory_format=torch.channels_last)
        last = model(x.to(memory_format=torch.channels_last), MIX)
    torch.testing.assert_close(last, y, rtol=0, atol=2e-5)


def test_bfloat16_agrees_with_float32(model):
    x = image(64, 48).to(memory_format=torch.channels_last)
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        y = model(x, MIX)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = model(x, MIX)
    # The change of a restoration; the bound would mean nothing for a model that does nothing.
    assert 0.025 < (y - x).std() < 0.1
    assert psnr(low, y) > 50


def test_three_degradations(backbone):
    three = (Degradation.NOISE, Degradation.RAIN, Degradation.HAZE)
    model = randomised(backbone.architecture, replace(backbone.tiny, degradations=three))
    assert model.degradations == three
    assert dead_parameters(model, image(8, 8), MIX[:, :3]) == []


def test_prompts_can_be_put_into_a_trained_bare_net(backbone, bare):
    prompted = backbone.architecture(backbone.tiny).eval()
    missing, unexpected = prompted.load_state_dict(bare.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} <= {"prompts", "tell"}
    x = image(12, 20)
    with torch.no_grad():
        assert torch.equal(prompted(x, MIX), bare(x, MIX))


@pytest.mark.parametrize(
    ("backbone", "changes"),
    [
        *((UNET, {"blocks": blocks}) for blocks in ((2, 1, 1), (1, 3, 2), (4, 4, 4))),
        *((NAFNET, {field: (3, 2)}) for field in ("encoder", "decoder")),
    ],
)
def test_a_trained_net_can_be_deepened(backbone, model, changes):
    deeper = backbone.architecture(replace(backbone.tiny, **changes)).eval()
    missing, unexpected = deeper.load_state_dict(model.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    x = image(20, 12)
    with torch.no_grad():
        assert torch.equal(deeper(x, MIX), model(x, MIX))


@pytest.mark.parametrize(("length", "size"), [(203, 16), (16, 203), (5, 32), (32, 32), (1, 8), (8, 1)])
def test_resize_matrix_is_torchs_bilinear_resize(length: int, size: int) -> None:
    line = torch.rand(1, 1, length, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(line, size=size, mode="linear", align_corners=False)
    torch.testing.assert_close(line @ resize_matrix(length, size, line.device).T, expected)


def _randomised_unet(planes: bool = False) -> UNet:
    torch.manual_seed(0)
    prompts = (PromptConfig(16, 32), None, PromptConfig(32, 8))
    model = UNet(
        UNetConfig(widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), prompts=prompts, planes=planes)
    ).eval()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize(("width", "planes"), [(200, False), (203, False), (203, True)])
def test_tiles_with_shared_prompts_equal_the_whole_image(width: int, planes: bool) -> None:
    model = _randomised_unet(planes)
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
