"""A model in parts: each graph does at other sizes what the model's method does."""

from __future__ import annotations

import backbones
import pytest
import torch

from pipcli.export.parts import LEAST_STRIDES, trace_parts
from pipcli.models.backbone import PromptSurvey
from pipcli.models.pip import PromptConfig
from pipcli.models.unet import UNet, UNetConfig

CONFIG = UNetConfig(widths=(8, 12, 16), blocks=(0, 0, 0), prompts=(None, PromptConfig(12, 5)), planes=True)


@pytest.fixture(scope="module")
def model() -> UNet:
    return backbones.randomised(UNet, CONFIG)


@pytest.fixture(scope="module")
def modules(model):
    return {name: part.program.module() for name, part in trace_parts(model).items()}


@pytest.mark.parametrize(("rows", "columns"), [(LEAST_STRIDES, 9), (6, 3)])
def test_each_part_does_what_its_method_does(model, modules, rows, columns):
    height, width = rows * model.stride, columns * model.stride
    x = backbones.image(height, width)[:1]
    omega = backbones.MIX[:1]
    with torch.no_grad():
        survey = PromptSurvey(model, omega, height, width)
        survey.add_features(x, 0, 0, (0, height, 0, width))
        survey.make_universal()
        survey.add_products(x, 0, 0, (0, height, 0, width))
        prompts = survey.finish()
        shared = [prompts.skips[level] for level in model.prompted_skips]
        placed = [
            prompt.universal_at(0, 0, x.shape, level)
            for prompt, level in zip(shared, model.prompted_skips, strict=True)
        ]
        attention = [prompt.attention for prompt in shared]
        x = model.shown(x, omega)
        features = model.features(x)

        found = modules["features"](x)
        expected = features
        found += [each for pair in modules["pairs"](features, placed) for each in pair]
        expected = expected + [each for pair in model.queries_keys(features, placed) for each in pair]
        found += [modules["tile"](x, placed, attention)]
        expected += [model.prompted_by(x, placed, attention)]
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_whole_takes_any_batch(model, modules, batch):
    x = torch.cat([backbones.image(24, 32)] * 2)[:batch]
    omega = torch.cat([backbones.MIX] * 2)[:batch]
    with torch.no_grad():
        torch.testing.assert_close(modules["whole"](x, omega), model(x, omega), atol=1e-5, rtol=1e-5)


def test_a_bare_model_is_one_part():
    bare = backbones.randomised(UNet, UNetConfig(widths=(4, 8), blocks=(0, 0), prompts=(None,)))
    (name,) = trace_parts(bare)
    assert name == "whole"
