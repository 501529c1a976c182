"""Restormer: the published counts, attention against numpy, and what all backbones hold."""

from __future__ import annotations

from dataclasses import replace

import backbones
import numpy as np
import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.models.pip import PromptConfig
from pipcli.models.restormer import (
    PIP_RESTORMER,
    RESTORMER,
    RESTORMER_CARRIER,
    ChannelAttention,
    Restormer,
    RestormerConfig,
)

# One skip whose prompt has more channels than the feature, one whose prompt has fewer.
TINY = RestormerConfig(
    width=12,
    blocks=(1, 1, 1),
    refinement=1,
    heads=(1, 2, 4),
    latent_cut=True,
    prompts=(PromptConfig(16, 5), PromptConfig(12, 4)),
)
BARE = replace(TINY, latent_cut=False, prompts=(None, None))


@pytest.fixture
def model() -> Restormer:
    return backbones.randomised(Restormer, TINY)


@pytest.mark.parametrize(
    ("config", "parameters", "in_convolutions"),
    [
        (PIP_RESTORMER, 27_316_614, 26_820_564),
        (RESTORMER, 26_126_644, 26_096_544),
        (RESTORMER_CARRIER, 24_191_284, 24_161_184),
    ],
)
def test_parameters_are_the_published_ones(config, parameters, in_convolutions):
    with torch.device("meta"):
        model = Restormer(config)
    assert backbones.parameter_count(model) == parameters
    assert backbones.weights_in_convolutions(model) == in_convolutions


@pytest.mark.parametrize(
    ("config", "without_products", "with_products"),
    [(PIP_RESTORMER, 154.728, 169.7), (RESTORMER, 140.990, 154.9), (RESTORMER_CARRIER, 138.952, 152.8)],
)
def test_multiplications_are_the_published_ones(config, without_products, with_products):
    with torch.device("meta"):
        model = Restormer(config)
    convolutions, products = backbones.multiplications(model)
    # The paper applies each skip's four masked attentions to the values, we apply their sum once.
    for level, prompt in enumerate(config.prompts):
        if prompt is not None:
            pixels, row = (256 // 2**level) ** 2, prompt.channels // 4
            products += 3 * pixels * prompt.channels * row
    assert round(convolutions / 1e9, 3) == without_products
    assert round((convolutions + products) / 1e9, 1) == with_products


def test_attention_is_between_channels():
    torch.manual_seed(0)
    layer = ChannelAttention(6, heads=2)
    with torch.no_grad():
        layer.temperature[:] = torch.tensor([0.5, 2.0])[:, None, None]
    x = torch.randn(1, 6, 5, 4)
    query, key, value = (
        part[0].flatten(1).detach().double().numpy() for part in layer.query_key_value(x).chunk(3, dim=1)
    )
    mixed = np.zeros_like(value)
    for head, temperature in ((0, 0.5), (1, 2.0)):
        for i in range(3):
            q = query[3 * head + i]
            weights = []
            for j in range(3):
                k = key[3 * head + j]
                weights.append(np.exp(temperature * (q @ k) / np.linalg.norm(q) / np.linalg.norm(k)))
            for j in range(3):
                mixed[3 * head + i] += weights[j] / sum(weights) * value[3 * head + j]
    expected = layer.project.weight.detach().double().numpy()[:, :, 0, 0] @ mixed
    np.testing.assert_allclose(layer(x)[0].flatten(1).detach().numpy(), expected, atol=1e-5)


def test_every_parameter_gets_a_gradient(model):
    backbones.check_gradients(model)


def test_every_parameter_of_the_bare_net_gets_a_gradient():
    backbones.check_gradients(backbones.randomised(Restormer, BARE))


def test_mix_of_omega_acts_and_scale_does_not(model):
    backbones.check_omega(model)


@pytest.mark.parametrize("latent_cut", [False, True])
def test_bare_net_ignores_omega(latent_cut):
    backbones.check_ignores_omega(backbones.randomised(Restormer, replace(BARE, latent_cut=latent_cut)))


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
    model = backbones.randomised(Restormer, replace(TINY, degradations=three))
    assert model.degradations == three
    assert backbones.dead_parameters(model, backbones.image(8, 8), backbones.MIX[:, :3]) == []


def test_prompts_can_be_put_into_a_trained_bare_net():
    bare = backbones.randomised(Restormer, replace(BARE, latent_cut=True))
    prompted = Restormer(TINY).eval()
    missing, unexpected = prompted.load_state_dict(bare.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split(".")[0] for name in missing} == {"prompts"}
    x = backbones.image(12, 20)
    with torch.no_grad():
        assert torch.equal(prompted(x, backbones.MIX), bare(x, backbones.MIX))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 13}, "width"),
        ({"blocks": (1, 1)}, "blocks"),
        ({"blocks": (1, -1, 1)}, "blocks"),
        ({"refinement": -1}, "refinement"),
        ({"heads": (1, 2)}, "heads"),
        ({"heads": (1, 5, 4)}, "5 does not divide 24"),
        ({"expansion": 0.0}, "expansion"),
        ({"prompts": (None,)}, "prompts"),
        ({"degradations": ()}, "degradations"),
    ],
)
def test_configuration_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
