"""The proof itself: what equals the model passes, and what is off in any way that matters does not."""

from __future__ import annotations

import math

import backbones
import pytest
import torch

from pipcli.export.parity import FP32_LIMIT, compare, trial_shapes
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

SHAPES = ((2, 16, 12), (1, 9, 7))


@pytest.fixture(scope="module")
def model() -> UNet:
    config = UNetConfig(widths=(8, 12), blocks=(1, 0), prompts=(PromptConfig(12, 5),))
    return backbones.randomised(UNet, config)


def test_the_model_itself_passes(model):
    parity = compare(model, model, SHAPES, half=False)
    assert parity.passed
    assert [(t.batch, t.height, t.width) for t in parity.trials] == list(SHAPES)
    assert all(t.largest == 0 and t.psnr is None for t in parity.trials)


@pytest.mark.parametrize(("offset", "passes"), [(0.9 * FP32_LIMIT, True), (1.2 * FP32_LIMIT, False)])
def test_the_limit_of_fp32(model, offset, passes):
    def run(x, omega):
        y = model(x, omega)
        y[-1, -1, -1, -1] += offset
        return y

    parity = compare(model, run, SHAPES, half=False)
    assert parity.passed is passes
    assert parity.trials[0].largest == pytest.approx(offset, rel=0.01)


@pytest.mark.parametrize(("decibels", "passes"), [(45.2, True), (44.8, False)])
def test_the_limit_of_half_precision(model, decibels, passes):
    def run(x, omega):
        return model(x, omega) + 10 ** (-decibels / 20)

    parity = compare(model, run, SHAPES, half=True)
    assert parity.passed is passes
    assert parity.trials[0].psnr == pytest.approx(decibels, abs=0.01)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda model, x, omega: model(x, omega[:1].expand_as(omega)), id="one omega for all"),
        pytest.param(lambda model, x, omega: model(x, torch.ones_like(omega)), id="omega ignored"),
        pytest.param(lambda model, x, omega: model(x[:1].expand_as(x), omega), id="one image for all"),
        pytest.param(lambda model, x, omega: model(x.flip(1), omega).flip(1), id="BGR"),
        pytest.param(lambda model, x, omega: model(x, omega).clamp(0.1, 0.9), id="clamped"),
    ],
)
def test_likely_mistakes_are_found(model, run):
    assert not compare(model, lambda x, omega: run(model, x, omega), SHAPES, half=False).passed


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (lambda y: y[..., :-1], "instead of"),
        (lambda y: y * math.nan, "not finite"),
        (lambda y: y.nonsense(), "does not run: .*nonsense"),
    ],
)
def test_what_cannot_be_measured_does_not_pass(model, run, problem):
    parity = compare(model, lambda x, omega: run(model(x, omega)), SHAPES, half=True)
    assert not parity.passed
    (first, _) = parity.trials
    assert first.largest is first.psnr is None
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(first.problem)


def test_trials_are_of_many_kinds():
    shapes = trial_shapes(9)
    assert {batch for batch, _, _ in shapes} == {1, 2, 3}
    assert (1, 9, 9) in shapes
    assert any(height % 2 and width % 2 for _, height, width in shapes)
    # Each ω of five degradations comes up: each alone, equal parts, unequal parts, none.
    assert sum(batch for batch, _, _ in shapes) >= 8
