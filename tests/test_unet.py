"""The residual U-Net: what all backbones hold, and that it can be deepened without loss."""

from __future__ import annotations

from dataclasses import replace

import backbones
import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import ResidualBlock, UNet, UNetConfig

# One skip whose prompt has more channels than the feature, one whose prompt has fewer.
TINY = UNetConfig(widths=(16, 24, 32), blocks=(1, 1, 1), prompts=(PromptConfig(24, 5), PromptConfig(12, 4)))
BARE = replace(TINY, prompts=(None, None))


@pytest.fixture
def model() -> UNet:
    return backbones.randomised(UNet, TINY)


def test_every_parameter_gets_a_gradient(model):
    backbones.check_gradients(model)


def test_mix_of_omega_acts_and_scale_does_not(model):
    backbones.check_omega(model)


def test_bare_net_ignores_omega():
    backbones.check_ignores_omega(backbones.randomised(UNet, BARE))


@pytest.mark.parametrize("size", backbones.ODD_SIZES)
def test_any_size(model, size):
    backbones.check_size(model, *size)


def test_input_is_not_clamped(model):
    backbones.check_no_clamp(model)


def test_channels_last_equals_contiguous(model):
    backbones.check_memory_format(model)


def test_bfloat16_agrees_with_float32(model):
    assert backbones.bfloat16_agreement(model) > 50


def test_three_degradations():
    three = (Degradation.NOISE, Degradation.RAIN, Degradation.HAZE)
    model = backbones.randomised(UNet, replace(TINY, degradations=three))
    assert model.degradations == three
    assert backbones.dead_parameters(model, backbones.image(8, 8), backbones.MIX[:, :3]) == []


def test_prompts_can_be_put_into_a_trained_bare_net():
    bare = backbones.randomised(UNet, BARE)
    prompted = UNet(TINY).eval()
    missing, unexpected = prompted.load_state_dict(bare.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"prompts"}
    x = backbones.image(12, 20)
    with torch.no_grad():
        assert torch.equal(prompted(x, backbones.MIX), bare(x, backbones.MIX))


@pytest.mark.parametrize("blocks", [(2, 1, 1), (1, 3, 2), (4, 4, 4)])
def test_a_trained_net_can_be_deepened(model, blocks):
    deeper = UNet(replace(TINY, blocks=blocks)).eval()
    missing, unexpected = deeper.load_state_dict(model.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    x = backbones.image(20, 12)
    with torch.no_grad():
        assert torch.equal(deeper(x, backbones.MIX), model(x, backbones.MIX))


def test_new_block_is_the_identity():
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(ResidualBlock(8)(x), x)


def test_brightness_has_a_reference():
    # Without biases and without the constant plane the network would be homogeneous.
    model = backbones.randomised(UNet, BARE)
    x = backbones.image(16, 16)
    with torch.no_grad():
        assert (model(0.5 * x, backbones.MIX) - 0.5 * model(x, backbones.MIX)).abs().max() > 1e-3
        model.head.weight[:, 3] = 0
        torch.testing.assert_close(model(0.5 * x, backbones.MIX), 0.5 * model(x, backbones.MIX))


def test_new_net_starts_near_its_input():
    torch.manual_seed(0)
    x = backbones.image(32, 32)
    with torch.no_grad():
        change = UNet(UNetConfig())(x, backbones.MIX) - x
    assert 0 < change.std() < 0.2


def test_halves_as_often_as_it_has_widths():
    assert UNet(TINY).stride == 4
    assert UNet(replace(BARE, widths=(8, 8), blocks=(0, 0), prompts=(None,))).stride == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (16,)}, "widths"),
        ({"blocks": (1, 1)}, "blocks"),
        ({"blocks": (1, -1, 1)}, "blocks"),
        ({"prompts": (None,)}, "prompts"),
        ({"degradations": ()}, "degradations"),
    ],
)
def test_configuration_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
