"""NAFNet: its counts, its block against numpy, and what all backbones hold."""

from __future__ import annotations

from dataclasses import replace

import backbones
import numpy as np
import pytest
import torch
from scipy import ndimage

from pipcli.degradations import Degradation
from pipcli.models.nafnet import NAFNET, PIP_NAFNET, NAFBlock, NAFNet, NAFNetConfig
from pipcli.models.pip import PromptConfig

# One skip whose prompt has more channels than the feature, one whose prompt has fewer.
TINY = NAFNetConfig(
    width=12,
    encoder=(1, 1),
    middle=1,
    decoder=(1, 1),
    prompts=(PromptConfig(16, 5), PromptConfig(12, 4)),
)
BARE = replace(TINY, prompts=(None, None))


@pytest.fixture
def model() -> NAFNet:
    return backbones.randomised(NAFNet, TINY)


def test_counts_of_the_bare_net():
    with torch.device("meta"):
        model = NAFNet(NAFNET)
    convolutions, products = backbones.multiplications(model)
    assert round(backbones.parameter_count(model) / 1e6) == 116
    assert round(convolutions / 1e9) == 63
    assert products == 0


def test_counts_of_the_prompted_net():
    with torch.device("meta"):
        model, bare = NAFNet(PIP_NAFNET), NAFNet(NAFNET)
    prompts = sum(backbones.parameter_count(skip) for skip in model.prompts)
    assert backbones.parameter_count(model) == backbones.parameter_count(bare) + prompts
    assert [skip.feature_channels for skip in model.prompts] == [64, 128, 256, 512]
    assert [tuple(skip.basic_prompt.shape) for skip in model.prompts] == [
        (64, 64, 64),
        (96, 32, 32),
        (128, 16, 16),
        (128, 16, 16),
    ]


def test_block_is_the_one_of_the_paper():
    torch.manual_seed(0)
    block = NAFBlock(4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    x = torch.randn(1, 4, 5, 6)
    numbers = {name: p.detach().double().numpy() for name, p in block.named_parameters()}

    def norm(z, name):
        scaled = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
        return scaled * numbers[f"{name}.weight"][:, None, None] + numbers[f"{name}.bias"][:, None, None]

    def pointwise(z, name):
        weight = numbers[f"{name}.weight"][:, :, 0, 0]
        return np.einsum("oc,chw->ohw", weight, z) + numbers[f"{name}.bias"][:, None, None]

    z = x[0].double().numpy()
    wide = pointwise(norm(z, "norm_spatial"), "spatial_in")
    mixed = np.stack(
        [
            ndimage.correlate(wide[c], numbers["depthwise.weight"][c, 0], mode="constant")
            + numbers["depthwise.bias"][c]
            for c in range(8)
        ]
    )
    gated = mixed[:4] * mixed[4:]
    gated = gated * pointwise(gated.mean((1, 2), keepdims=True), "attention")
    y = z + pointwise(gated, "spatial_out") * numbers["spatial_scale"]
    wide = pointwise(norm(y, "norm_channel"), "channel_in")
    expected = y + pointwise(wide[:4] * wide[4:], "channel_out") * numbers["channel_scale"]
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_new_block_is_the_identity():
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(NAFBlock(8)(x), x)


def test_every_parameter_gets_a_gradient(model):
    backbones.check_gradients(model)


def test_every_parameter_of_the_bare_net_gets_a_gradient():
    backbones.check_gradients(backbones.randomised(NAFNet, BARE))


def test_mix_of_omega_acts_and_scale_does_not(model):
    backbones.check_omega(model)


def test_bare_net_ignores_omega():
    backbones.check_ignores_omega(backbones.randomised(NAFNet, BARE))


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
    model = backbones.randomised(NAFNet, replace(TINY, degradations=three))
    assert model.degradations == three
    assert backbones.dead_parameters(model, backbones.image(8, 8), backbones.MIX[:, :3]) == []


def test_prompts_can_be_put_into_a_trained_bare_net():
    bare = backbones.randomised(NAFNet, BARE)
    prompted = NAFNet(TINY).eval()
    missing, unexpected = prompted.load_state_dict(bare.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"prompts"}
    x = backbones.image(12, 20)
    with torch.no_grad():
        assert torch.equal(prompted(x, backbones.MIX), bare(x, backbones.MIX))


@pytest.mark.parametrize("field", ["encoder", "decoder"])
def test_a_trained_net_can_be_deepened(model, field):
    deeper = NAFNet(replace(TINY, **{field: (3, 2)})).eval()
    missing, unexpected = deeper.load_state_dict(model.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    x = backbones.image(20, 12)
    with torch.no_grad():
        assert torch.equal(deeper(x, backbones.MIX), model(x, backbones.MIX))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width"),
        ({"encoder": ()}, "encoder"),
        ({"encoder": (1, -1)}, "encoder"),
        ({"middle": -1}, "middle"),
        ({"decoder": (1,)}, "decoder"),
        ({"prompts": (None,)}, "prompts"),
        ({"degradations": ()}, "degradations"),
    ],
)
def test_configuration_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
