"""ResNet-34 and its Fourier form: the published numbers of parameters, and sizes."""

from __future__ import annotations

import pytest
import torch

from pipcli.models.resnet import ResNet34


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_plain_net_has_the_parameters_of_resnet34():
    # 21,797,672 with 1000 classes is what every library counts.
    assert parameters(ResNet34(1000)) == 21_797_672


def test_the_fourier_net_has_the_parameters_of_table_s4():
    # PIP, supplement S4: 20.03 M with ratio 0.5, local Fourier units and five classes.
    assert parameters(ResNet34(5, ratio=0.5)) == pytest.approx(20.03e6, abs=5e3)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_any_size_goes_through(ratio):
    model = ResNet34(5, ratio).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 70, 45)).shape == (2, 5)


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match=f"ratio is {ratio}"):
        ResNet34(5, ratio)
