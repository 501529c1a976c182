"""NAFNet: its counts, and its block against numpy; test_backbone.py holds it to what all backbones must."""

from __future__ import annotations

from dataclasses import replace

import backbones
import numpy as np
import pytest
import torch
from scipy import ndimage

from pipcli.models.nafnet import NAFNET, PIP_NAFNET, NAFBlock, NAFNet


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
        replace(backbones.NAFNET.tiny, **changes)
