"""Muon and AdamW: which parameters go to which, and Muon's step against a singular value decomposition."""

import pytest
import torch
from torch import nn

from pipcli.models.checkpoint import build_model
from pipcli.training import optimiser as optimiser_module
from pipcli.training.optimiser import Muon, make_optimisers, moments_of, orthogonalise
from pipcli.training.recipe import Optimiser

SMALL = {"widths": [16, 32], "blocks": [1, 1], "prompts": [{"channels": 16, "size": 4}]}


def members(optimiser):
    return {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(3, 16, 64), (2, 64, 16), (1, 32, 32)])
def test_orthogonalised_matrices_keep_directions_and_level_singular_values(monkeypatch, shape, native):
    monkeypatch.setattr(optimiser_module, "has_native_bfloat16", lambda device: native)
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    assert values.max() > 2 * values.min()
    result = orthogonalise(matrices)
    assert result.dtype == torch.float32
    levelled = left.mT @ result @ right.mT
    diagonal = levelled.diagonal(dim1=-2, dim2=-1)
    assert diagonal.min() > 0.5
    assert diagonal.max() < 1.35
    off = levelled - torch.diag_embed(diagonal)
    assert off.abs().max() < 0.1


def test_zero_stays_zero():
    assert torch.equal(orthogonalise(torch.zeros(2, 16, 20)), torch.zeros(2, 16, 20))


def test_the_scale_of_a_gradient_does_not_matter():
    matrices = torch.randn((1, 16, 144), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalise(1e-4 * matrices), orthogonalise(matrices), rtol=0, atol=2e-2)


def test_three_steps_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    kernels = [torch.randn((16, 24, 3, 3), generator=generator) for _ in range(2)]
    other = torch.randn((32, 16, 1, 1), generator=generator)
    parameters = [nn.Parameter(kernel.clone()) for kernel in (*kernels, other)]
    optimiser = Muon(parameters, 0.01, momentum=0.9)
    expected = [parameter.detach().clone() for parameter in parameters]
    averages = [torch.zeros_like(value) for value in expected]
    for _ in range(3):
        for parameter, value, average in zip(parameters, expected, averages, strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            average.copy_(0.9 * average + 0.1 * parameter.grad)
            matrix = (0.1 * parameter.grad + 0.9 * average).reshape(len(parameter), -1)
            step = orthogonalise(matrix[None])[0]
            value.sub_(0.01 * 0.2 * max(matrix.shape) ** 0.5 * step.view(value.shape))
        optimiser.step()
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=5e-4)


def test_a_step_has_the_size_of_adams():
    parameter = nn.Parameter(torch.zeros(64, 64, 3, 3))
    parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    Muon([parameter], 0.01).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)


def test_without_a_gradient_nothing_moves():
    parameter = nn.Parameter(torch.ones(16, 16, 1, 1))
    optimiser = Muon([parameter], 0.01)
    optimiser.step()
    assert torch.equal(parameter.detach(), torch.ones(16, 16, 1, 1))
    assert not optimiser.state


def test_every_parameter_has_one_optimiser_and_matrices_have_muon():
    model = build_model("unet", SMALL)
    muon, adam = make_optimisers(list(model.parameters()), Optimiser())
    assert isinstance(muon, Muon)
    assert isinstance(adam, torch.optim.AdamW)
    assert members(muon) | members(adam) == {id(parameter) for parameter in model.parameters()}
    assert not members(muon) & members(adam)
    for name, parameter in model.named_parameters():
        plain = name in ("head.weight", "tail.weight") or parameter.ndim < 4 or parameter.shape[1] == 1
        if plain:
            assert id(parameter) in members(adam), name
    assert id(model.get_parameter("encoder.0.0.first.weight")) in members(muon)
    assert id(model.get_parameter("up.0.weight")) in members(muon)


def test_adam_alone_where_the_recipe_says_so():
    model = build_model("unet", SMALL)
    settings = Optimiser(muon=False, betas=(0.8, 0.9), weight_decay=0.1)
    (adam,) = make_optimisers(list(model.parameters()), settings)
    assert adam.defaults["betas"] == (0.8, 0.9)
    assert adam.defaults["weight_decay"] == 0.1
    assert members(adam) == {id(parameter) for parameter in model.parameters()}


def test_moments_are_those_that_are_kept():
    kernel, bias = nn.Parameter(torch.zeros(16, 16, 3, 3)), nn.Parameter(torch.zeros(16))
    for optimiser in make_optimisers([kernel, bias], Optimiser()):
        for parameter in (kernel, bias):
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
        (kept,) = optimiser.state.values()
        assert sorted(kept) == sorted(moments_of(optimiser))
