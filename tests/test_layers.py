"""Shared layers against numpy and scipy, and padding against a plain list of indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from pipcli.models.layers import ChannelNorm, GatedFeedForward, pad_to_stride, project_part


def norm(channels: int) -> ChannelNorm:
    torch.manual_seed(0)
    layer = ChannelNorm(channels)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def by_hand(layer: ChannelNorm, x: torch.Tensor) -> np.ndarray:
    values = x.double().numpy()
    centred = values - values.mean(1, keepdims=True)
    scaled = centred / np.sqrt(values.var(1, keepdims=True) + 1e-5)
    weight, bias = (p.detach().double().numpy()[:, None, None] for p in (layer.weight, layer.bias))
    return scaled * weight + bias


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_norm_is_over_the_channels_of_each_pixel(memory_format):
    layer = norm(6)
    x = torch.randn(2, 6, 5, 4).to(memory_format=memory_format)
    np.testing.assert_allclose(layer(x).detach().numpy(), by_hand(layer, x), atol=1e-5)


def test_norm_copies_nothing_in_channels_last():
    x = torch.randn(2, 6, 5, 4).to(memory_format=torch.channels_last)
    assert norm(6)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norm_takes_statistics_in_float32_and_keeps_the_type(dtype, autocast):
    layer = norm(64)
    # A mean of 64 and a spread of 4 in bfloat16: statistics of 8 bits would be off by a tenth of the result.
    x = (64 + 4 * torch.randn(1, 64, 3, 3)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = layer(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y.detach().float().numpy(), by_hand(layer, x), rtol=torch.finfo(dtype).eps, atol=1e-4
    )


def test_norm_is_off_its_mean_by_nothing_that_matters_for_a_constant():
    layer = ChannelNorm(8)
    np.testing.assert_array_equal(layer(torch.full((1, 8, 2, 2), 3.0)).detach().numpy(), 0)


def test_feed_forward_is_the_gated_one():
    torch.manual_seed(0)
    layer = GatedFeedForward(5, 2.66)
    hidden = 13
    assert layer.narrow.in_channels == hidden
    x = torch.randn(1, 5, 6, 7)
    widen, mix, narrow = (c.weight.detach().double().numpy() for c in (layer.widen, layer.mix, layer.narrow))
    wide = np.einsum("oc,chw->ohw", widen[..., 0, 0], x[0].double().numpy())
    mixed = np.stack(
        [
            ndimage.correlate(plane, kernel[0], mode="constant")
            for plane, kernel in zip(wide, mix, strict=True)
        ]
    )
    gate, value = mixed[:hidden], mixed[hidden:]
    gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    expected = np.einsum("oc,chw->ohw", narrow[..., 0, 0], gelu * value)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_are_chunks_of_the_whole_and_train_alike(parts, autocast):
    torch.manual_seed(0)
    mix = nn.Conv2d(5, 42, 1, bias=False)
    spread = nn.Conv2d(42, 42, 3, padding=1, groups=42, bias=False)
    x = torch.randn(2, 5, 9, 7).to(memory_format=torch.channels_last).requires_grad_()
    leaves = (x, mix.weight, spread.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        whole = spread(mix(x)).chunk(parts, dim=1)
        apart = [project_part(x, mix, spread, index, parts) for index in range(parts)]
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in apart)
    gradients = []
    for outputs in (whole, apart):
        total = sum((index + 1) * part.float().square().sum() for index, part in enumerate(outputs))
        gradients.append(torch.autograd.grad(total, leaves))
    bound = 2**-7 if autocast else 1e-5
    for expected, found in zip((*whole, *gradients[0]), (*apart, *gradients[1]), strict=True):
        assert (found - expected).abs().max() <= bound * expected.abs().max()


def test_hidden_channels_are_rounded_down():
    assert GatedFeedForward(48, 2.66).narrow.in_channels == 127


@pytest.mark.parametrize(
    ("row", "stride", "padded"),
    [
        ([1, 2, 3, 4], 4, [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5], 8, [1, 2, 3, 4, 5, 4, 3, 2]),
        ([1, 2, 3], 8, [1, 2, 3, 2, 1, 1, 1, 1]),
        ([1, 2], 4, [1, 2, 1, 1]),
        ([7], 4, [7, 7, 7, 7]),
    ],
)
def test_padding_mirrors_then_repeats(row, stride, padded):
    values = torch.tensor(row, dtype=torch.float32)
    wide = pad_to_stride(values.expand(1, 1, stride, -1), stride)
    assert wide[0, 0, 0].tolist() == padded
    high = pad_to_stride(values[:, None].expand(1, 1, -1, stride), stride)
    assert high[0, 0, :, 0].tolist() == padded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 17), (31, 5)])
def test_padding_goes_in_both_directions_at_once(size, dtype):
    x = torch.rand(2, 3, *size).to(dtype)
    y = pad_to_stride(x, 16)
    assert [side % 16 for side in y.shape[-2:]] == [0, 0]
    assert y.shape[-2] - size[0] < 16
    assert y.shape[-1] - size[1] < 16
    assert torch.equal(y[..., : size[0], : size[1]], x)
