"""Restormer: the published counts, and attention against numpy; test_backbone.py has what all must hold."""

from __future__ import annotations

from dataclasses import replace

import backbones
import numpy as np
import pytest
import torch

from pipcli.models.restormer import (
    PIP_RESTORMER,
    RESTORMER,
    RESTORMER_CARRIER,
    ChannelAttention,
    Restormer,
)


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


def test_the_net_as_published_learns_everywhere_and_ignores_omega():
    """Without the cut of the latent that makes room for PIP's prompts."""
    config = replace(backbones.RESTORMER.bare, latent_cut=False)
    model = backbones.randomised(Restormer, config)
    x = backbones.image(20, 12)
    assert backbones.dead_parameters(model, x, backbones.MIX) == []
    with torch.no_grad():
        assert torch.equal(model(x, backbones.MIX), model(x, backbones.MIX.flip(0)))


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
        replace(backbones.RESTORMER.tiny, **changes)
