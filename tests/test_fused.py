"""One step gives what several give, wherever it is taken, and is not taken where gradients are wanted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, special

from pipcli.models import fused
from pipcli.models.fused import convolve, fuses
from pipcli.models.pip import FEATURE_HEADS, PromptConfig, PromptedSkip, channel_products

FOLLOWERS = [
    pytest.param({}, lambda y, other: y, id="nothing"),
    pytest.param({"activation": "relu"}, lambda y, other: np.maximum(y, 0), id="relu"),
    pytest.param(
        {"activation": "gelu"}, lambda y, other: y / 2 * (1 + special.erf(y / np.sqrt(2))), id="gelu"
    ),
    pytest.param({"plus": True}, lambda y, other: y + other, id="sum"),
    pytest.param({"times": True}, lambda y, other: y * other, id="product"),
]


def numbers(*shape: int) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return made.contiguous(memory_format=torch.channels_last)


def by_scipy(x: torch.Tensor, weight: torch.Tensor, groups: int) -> np.ndarray:
    values, kernels = x.double().numpy(), weight.double().numpy()
    taken = kernels.shape[1]
    out = np.zeros((len(values), len(kernels), *values.shape[2:]))
    for image in range(len(values)):
        for channel, kernel in enumerate(kernels):
            first = channel * groups // len(kernels) * taken
            for index in range(taken):
                plane = values[image, first + index]
                out[image, channel] += ndimage.correlate(plane, kernel[index], mode="constant")
    return out


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize(("follower", "expected"), FOLLOWERS)
@pytest.mark.parametrize("recording", [False, True])
def test_convolution_and_what_follows_against_scipy(follower, expected, groups, recording):
    x, other = numbers(2, 6, 7, 9), numbers(2, 6, 9, 7).transpose(2, 3)
    weight = numbers(6, 6 // groups, 3, 3)
    options = {name: other if value is True else value for name, value in follower.items()}
    with torch.set_grad_enabled(recording):
        y = convolve(x, weight, padding=1, groups=groups, **options)
    wanted = expected(by_scipy(x, weight, groups), other.double().numpy())
    np.testing.assert_allclose(y.numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize(("follower", "expected"), FOLLOWERS)
def test_bfloat16_is_rounded_no_more_than_in_steps(follower, expected):
    x, weight, other = numbers(1, 16, 20, 24), numbers(16, 16, 3, 3), numbers(1, 16, 20, 24)
    exact = [each.bfloat16().float() for each in (x, weight, other)]
    wanted = expected(by_scipy(exact[0], exact[1], 1), exact[2].double().numpy())
    options = {name: exact[2] if value is True else value for name, value in follower.items()}
    errors = []
    for recording in (False, True):
        with torch.set_grad_enabled(recording), torch.autocast("cpu", torch.bfloat16):
            # As it comes from a convolution, in bfloat16 already.
            y = convolve(
                exact[0],
                exact[1],
                padding=1,
                **{
                    name: value.bfloat16() if torch.is_tensor(value) else value
                    for name, value in options.items()
                },
            )
        assert y.dtype == torch.bfloat16
        errors.append(np.sqrt(np.square(y.double().numpy() - wanted).mean()))
    assert errors[0] <= 1.02 * errors[1]


def test_gradients_reach_all_that_takes_part():
    tensors = [numbers(1, 4, 5, 6), numbers(4, 4, 3, 3), numbers(1, 4, 6, 5).transpose(2, 3).clone()]
    x, weight, other = (each.requires_grad_() for each in tensors)
    assert not fuses(x)
    convolve(x, weight, padding=1, plus=other).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in tensors)


def test_only_one_thing_follows():
    x, weight = numbers(1, 4, 5, 5), numbers(4, 4, 1, 1)
    with pytest.raises(ValueError, match="only one of them"):
        convolve(x, weight, activation="relu", plus=x)


@pytest.mark.parametrize("channels", [8, 12, 16])
def test_a_prompted_skip_in_few_steps_is_that_in_many(channels, monkeypatch):
    torch.manual_seed(0)
    skip = PromptedSkip(channels, 5, PromptConfig(12, 5))
    for parameter in skip.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    feature, omega = numbers(1, channels, 11, 14), torch.eye(5)[:1]
    with torch.no_grad():
        few = skip(feature, omega)
        monkeypatch.setattr(fused, "_fused_dtype", lambda x: None)
        many = skip(feature, omega)
    torch.testing.assert_close(few, many, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_all_channels_hold_those_of_each_head(dtype):
    query, key = (numbers(1, 16, side, 30).to(dtype) for side in (20, 20))
    key = key.flip(1)
    with torch.no_grad():
        few = channel_products(query, key, FEATURE_HEADS)
    many = channel_products(query, key, FEATURE_HEADS)
    assert all(each.dtype == torch.float32 for each in few)
    for a, b in zip(few, many, strict=True):
        # Sums of 600 products, each rounded to 8 bits at the end.
        torch.testing.assert_close(
            a, b, rtol=1e-4 if dtype is torch.float32 else 8e-3, atol=1e-3 if dtype is torch.float32 else 0.3
        )
