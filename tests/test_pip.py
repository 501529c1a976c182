"""PIP against its equations written out slowly, its limits, and its loss against numpy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.models.pip import (
    BareSkip,
    PromptConfig,
    PromptedSkip,
    PromptToPrompt,
    apply_channel_attention,
    channel_products,
    cosine_scores,
    decoupling_loss,
    skip_connections,
    top_m,
)

TYPES = 5
OMEGA = torch.tensor([[0.5, 0.0, 0.3, 0.0, 0.2], [0.0, 0.1, 0.0, 0.9, 0.0]])
FULL = PromptConfig(16, 5)
ABLATION = {
    "a": replace(FULL, basic_prompt=False, selective=False),
    "b": replace(FULL, degradation_prompt=False, selective=False),
    "c": replace(FULL, selective=False),
    "d": replace(FULL, degradation_prompt=False),
    "e": FULL,
}
"""Table 5: d alone, B alone, both through prompt-to-prompt, B with selection, all."""


def skip_of(channels: int, config: PromptConfig, types: int = TYPES, seed: int = 0) -> PromptedSkip:
    """A prompted skip without a parameter that is zero or one."""
    torch.manual_seed(seed)
    skip = PromptedSkip(channels, types, config)
    with torch.no_grad():
        for parameter in skip.parameters():
            if parameter.ndim == 4:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return skip.eval()


def feature_of(channels: int, height: int = 6, width: int = 7, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(7))


# The equations, slowly: one image, one head, one row, one mask at a time, in float64.


def slow_norm(x: np.ndarray, norm: nn.Module) -> np.ndarray:
    scaled = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    weight, bias = (p.detach().double().numpy()[:, None, None] for p in (norm.weight, norm.bias))
    return scaled * weight + bias


def slow_convolution(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    weight = layer.weight.detach().double()
    out = F.conv2d(torch.from_numpy(x)[None], weight, padding=layer.padding, groups=layer.groups)
    return out[0].numpy()


def slow_convolutions(x: np.ndarray, layers: nn.Sequential) -> np.ndarray:
    for layer in layers:
        x = slow_convolution(x, layer)
    return x


def slow_feed_forward(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    wide = slow_convolution(slow_convolution(x, layer.widen), layer.mix)
    first, second = np.split(wide, 2)
    gelu = 0.5 * first * (1 + np.vectorize(math.erf)(first / math.sqrt(2)))
    return slow_convolution(gelu * second, layer.narrow)


def slow_resize(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between pixel centres, the nearest pixel beyond them."""

    def line(z: np.ndarray, length: int, axis: int) -> np.ndarray:
        old = z.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        return (1 - share) * z.take(low, axis) + share * z.take(high, axis)

    return line(line(x, height, 1), width, 2)


def slow_attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, temperature: np.ndarray, shares: list[float] | None
) -> list[np.ndarray]:
    """What each mask lets through (Eqs. 7 and 8), c×H×W for each; one entry where there are no masks."""
    heads = len(temperature)
    row = len(query) // heads
    keeps = [row] if shares is None else [math.floor(row * share + 1e-9) for share in shares]
    outs = [np.zeros_like(value) for _ in keeps]
    for head in range(heads):
        for i in range(head * row, (head + 1) * row):
            scores = []
            for j in range(head * row, (head + 1) * row):
                cosine = (query[i] * key[j]).sum() / np.sqrt((query[i] ** 2).sum() * (key[j] ** 2).sum())
                scores.append(cosine * temperature[head])
            for out, m in zip(outs, keeps, strict=True):
                kept = sorted(range(row), key=lambda j: -scores[j])[:m]
                total = sum(math.exp(scores[j]) for j in kept)
                for j in kept:
                    out[i] += math.exp(scores[j]) / total * value[head * row + j]
    return outs


def slow_fit(x: np.ndarray, channels: int) -> np.ndarray:
    fitted = np.zeros((channels, *x.shape[1:]))
    fitted[: len(x)] = x[:channels]
    return fitted


def slow_skip(skip: PromptedSkip, feature: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Steps 1 to 7 of the module for one image; C×H×W to C×H×W."""
    config, (channels, height, width) = skip.config, feature.shape
    c, s = config.channels, config.size
    if config.degradation_prompt:
        prompts = skip.degradation_prompts.detach().double().numpy()
        weighted = sum(omega[t] * prompts[t] for t in range(len(omega))) / len(omega)
    if config.degradation_prompt and config.basic_prompt:
        p2p = skip.prompt_to_prompt
        basic = skip.basic_prompt.detach().double().numpy()
        aware = weighted[:, None, None] * slow_fit(slow_resize(feature, s, s), c)
        query = slow_convolutions(slow_norm(basic, p2p.norm_basic), p2p.query)
        key, value = np.split(slow_convolutions(slow_norm(aware, p2p.norm_aware), p2p.key_value), 2)
        temperature = p2p.temperature.detach().double().numpy()[:, 0, 0]
        (attended,) = slow_attention(query, key, value, temperature, None)
        x = basic + slow_convolution(attended, p2p.project)
        universal = x + slow_feed_forward(slow_norm(x, p2p.norm), p2p.feed_forward)
    elif config.degradation_prompt:
        universal = np.repeat(weighted, s * s).reshape(c, s, s)
    else:
        universal = skip.basic_prompt.detach().double().numpy()
    universal = slow_convolution(slow_resize(universal, height, width), skip.smooth)

    query = slow_convolutions(slow_fit(slow_norm(feature, skip.norm_feature), c), skip.query)
    key, value = np.split(slow_convolutions(slow_norm(universal, skip.norm_prompt), skip.key_value), 2)
    temperature = skip.temperature.detach().double().numpy()[:, 0, 0]
    shares = [1 / 2, 2 / 3, 3 / 4, 4 / 5] if config.selective else None
    outs = slow_attention(query, key, value, temperature, shares)
    if config.selective:
        outs = [scale.item() * out for scale, out in zip(skip.selection, outs, strict=True)]
    attended = slow_convolution(sum(outs), skip.project)
    if c > channels:
        attended = slow_convolution(attended, skip.fit)
    y = feature + slow_fit(attended, channels)
    return y + slow_feed_forward(slow_norm(y, skip.norm), skip.feed_forward)


@pytest.mark.parametrize("channels", [10, 16, 20], ids=["C<c", "C=c", "C>c"])
@pytest.mark.parametrize("variant", ABLATION)
def test_skip_is_what_the_equations_say(variant, channels):
    skip = skip_of(channels, ABLATION[variant])
    feature = feature_of(channels)
    with torch.no_grad():
        out = skip(feature, OMEGA).numpy()
    for i in range(len(feature)):
        expected = slow_skip(skip, feature[i].double().numpy(), OMEGA[i].double().numpy())
        np.testing.assert_allclose(out[i], expected, atol=2e-4)


def test_attention_is_the_sum_of_four_masked_ones():
    # Rows of 24, of which the masks keep 12, 16, 18 and 19.
    skip = skip_of(96, PromptConfig(96, 4))
    query, key, value = feature_of(3 * 96, 4, 5, batch=1).chunk(3, dim=1)
    with torch.no_grad():
        out = apply_channel_attention(skip.attention(*channel_products(query, key, 4)), value)
    temperature = skip.temperature.detach().double().numpy()[:, 0, 0]
    q, k, v = (x[0].double().numpy() for x in (query, key, value))
    masked = slow_attention(q, k, v, temperature, [1 / 2, 2 / 3, 3 / 4, 4 / 5])
    assert len({one.tobytes() for one in masked}) == 4
    expected = sum(scale.item() * one for scale, one in zip(skip.selection, masked, strict=True))
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("m", [1, 3, 5])
def test_top_m_keeps_the_largest_of_each_row(m):
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    kept = top_m(scores, m)
    for row, out in zip(scores.view(-1, 5).tolist(), kept.view(-1, 5).tolist(), strict=True):
        limit = sorted(row, reverse=True)[m - 1]
        assert out == [value if value >= limit else -math.inf for value in row]


def test_top_m_keeps_m_of_equals():
    assert top_m(torch.zeros(1, 6), 4).isfinite().sum() == 4


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_channel_products_of_halves_add_up(memory_format):
    query, key = (x.contiguous(memory_format=memory_format) for x in feature_of(32, 8, 10).chunk(2, dim=1))
    whole = channel_products(query, key, 4)
    halves = [channel_products(query[..., part], key[..., part], 4) for part in (slice(0, 4), slice(4, 10))]
    for all_pixels, left, right in zip(whole, *halves, strict=True):
        torch.testing.assert_close(left + right, all_pixels)


def test_channel_products_against_einsum():
    query, key = feature_of(32, 8, 10).chunk(2, dim=1)
    q, k = (x.double().numpy().reshape(2, 4, 4, 80) for x in (query, key))
    products, query_norms, key_norms = (x.numpy() for x in channel_products(query, key, 4))
    np.testing.assert_allclose(products, np.einsum("bhip,bhjp->bhij", q, k), atol=1e-4)
    np.testing.assert_allclose(query_norms, (q**2).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(key_norms, (k**2).sum(-1), rtol=1e-5)


def test_channel_products_of_a_megapixel_fit_in_float16():
    # 300,000 pixels of about 1: their sum is beyond float16.
    query = 1 + 0.1 * torch.randn(1, 4, 500, 600, generator=torch.Generator().manual_seed(0))
    exact, _, _ = channel_products(query, query, 2)
    half, _, _ = channel_products(query.half(), query.half(), 2)
    assert exact.min() > 65504
    torch.testing.assert_close(half, exact, rtol=2e-3, atol=0)


def test_empty_channels_score_zero():
    zeros = torch.zeros(1, 8, 3, 3)
    assert torch.equal(cosine_scores(*channel_products(zeros, zeros, 2)), torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("channels", [10, 16, 20])
@pytest.mark.parametrize("variant", ABLATION)
def test_new_skip_is_the_identity(variant, channels):
    skip = PromptedSkip(channels, TYPES, ABLATION[variant])
    feature = feature_of(channels)
    with torch.no_grad():
        assert torch.equal(skip(feature, OMEGA), feature)


@pytest.mark.parametrize("variant", ABLATION)
def test_every_parameter_of_each_variant_gets_a_gradient(variant):
    skip = skip_of(12, ABLATION[variant])
    out = skip(feature_of(12), OMEGA)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert [name for name, p in skip.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("variant", "acts"), [("a", True), ("b", False), ("c", True), ("d", False), ("e", True)]
)
def test_omega_acts_where_there_are_degradation_prompts(variant, acts):
    skip = skip_of(12, ABLATION[variant])
    with torch.no_grad():
        change = (skip(feature_of(12), OMEGA) - skip(feature_of(12), OMEGA.flip(0))).abs().amax((1, 2, 3))
    assert (change > 0.01).all() if acts else (change == 0).all()


def test_variants_hold_what_they_use():
    held = {
        name: {key.split(".")[0] for key, _ in PromptedSkip(8, TYPES, config).named_parameters()}
        & {"degradation_prompts", "basic_prompt", "prompt_to_prompt", "selection"}
        for name, config in ABLATION.items()
    }
    assert held == {
        "a": {"degradation_prompts"},
        "b": {"basic_prompt"},
        "c": {"degradation_prompts", "basic_prompt", "prompt_to_prompt"},
        "d": {"basic_prompt", "selection"},
        "e": {"degradation_prompts", "basic_prompt", "prompt_to_prompt", "selection"},
    }


@pytest.mark.parametrize("basic", [True, False])
@pytest.mark.parametrize("factor", [8, 0.25, 2**-20])
def test_only_the_mix_of_omega_acts(factor, basic):
    skip = skip_of(96, PromptConfig(96, 16, basic_prompt=basic))
    feature = feature_of(96, 16, 16)
    mix = torch.tensor([[0.7, 0.3, 0, 0, 0], [0, 0, 1, 0, 0]])
    with torch.no_grad():
        prompt = skip.universal_prompt(feature, mix)
        scaled = skip.universal_prompt(feature, factor * mix)
        other = skip.universal_prompt(feature, mix.roll(1, dims=1))
    assert torch.equal(scaled, prompt)  # powers of two, whose products are exact
    assert (other - prompt).norm() > 1e-3 * prompt.norm()


def test_an_omega_of_zeros_is_no_number_divided_by_zero():
    skip = skip_of(12, FULL)
    with torch.no_grad():
        assert skip(feature_of(12), torch.zeros(2, TYPES)).isfinite().all()


def test_each_image_has_its_own_omega():
    skip = skip_of(12, FULL)
    feature = feature_of(12)
    with torch.no_grad():
        both = skip(feature, OMEGA)
        for i in range(2):
            torch.testing.assert_close(skip(feature[i : i + 1], OMEGA[i : i + 1]), both[i : i + 1])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2)])
def test_any_feature_size(size):
    feature = feature_of(12, *size)
    with torch.no_grad():
        out = skip_of(12, FULL)(feature, OMEGA)
    assert out.shape == feature.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_flat_feature_stays_finite_both_ways(flat):
    skip = skip_of(12, FULL)
    feature = torch.full((1, 12, 8, 8), flat, requires_grad=True)
    skip(feature, OMEGA[:1]).sum().backward()
    assert feature.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in skip.parameters())


def test_prompt_parameters_start_as_published():
    torch.manual_seed(0)
    skip = PromptedSkip(64, TYPES, PromptConfig(64, 16))
    assert skip.degradation_prompts.shape == (TYPES, 64)
    assert skip.basic_prompt.shape == (64, 16, 16)
    for prompts in (skip.degradation_prompts, skip.basic_prompt):
        assert abs(prompts.mean()) < 0.1
        assert abs(prompts.std() - 1) < 0.1
    assert torch.equal(skip.selection, torch.full((4,), 0.2))
    assert (skip.temperature == 1).all()


def test_skips_are_bare_or_prompted():
    skips = skip_connections((8, 16), (None, PromptConfig(8, 4)), TYPES)
    assert [type(skip) for skip in skips] == [BareSkip, PromptedSkip]
    feature = feature_of(8)
    assert skips[0](feature, OMEGA) is feature
    with pytest.raises(ValueError, match="shorter"):
        skip_connections((8, 16), (None,), TYPES)


def model_with(*prompts: Tensor) -> nn.Module:
    """A model whose skips have these degradation-aware prompts."""
    skips = []
    for values in prompts:
        skip = PromptedSkip(8, len(values), PromptConfig(values.shape[1], 4))
        skip.degradation_prompts = nn.Parameter(values)
        skips.append(skip)
    return nn.Sequential(*skips)


def slow_loss(prompts: np.ndarray, threshold: float) -> float:
    terms = []
    for i in range(len(prompts)):
        for j in range(i + 1, len(prompts)):
            a, b = prompts[i], prompts[j]
            angle = math.degrees(math.acos(a @ b / (math.sqrt(a @ a) * math.sqrt(b @ b) + 1e-8)))
            terms.append(max(0.0, threshold - angle))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("threshold", [90.0, 60.0])
def test_decoupling_loss_against_numpy(threshold, autocast):
    generator = torch.Generator().manual_seed(0)
    # A common part draws the angles below the threshold.
    prompts = [
        torch.randn(TYPES, 16, generator=generator) + 0.7,
        torch.randn(3, 8, generator=generator) + 0.7,
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = decoupling_loss(model_with(*prompts), threshold)
    expected = np.mean([slow_loss(values.double().numpy(), threshold) for values in prompts])
    assert expected > 1
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_decoupling_loss_is_in_degrees():
    at_60 = torch.tensor([[1.0, 0, 0, 0], [0.5, math.sqrt(0.75), 0, 0]])
    assert decoupling_loss(model_with(at_60)).item() == pytest.approx(30, abs=1e-3)
    assert decoupling_loss(model_with(torch.eye(4))).item() == 0


@pytest.mark.parametrize("other", [1.0, -1.0, 2.0, 0.0])
def test_decoupling_loss_has_a_finite_gradient_for_parallel_prompts(other):
    # A vector of norm 4, so that the cosine is 1 without rounding.
    one = torch.ones(16)
    model = model_with(torch.stack([one, other * one]))
    loss = decoupling_loss(model)
    loss.backward()
    assert loss.isfinite()
    assert model[0].degradation_prompts.grad.isfinite().all()


def test_decoupling_loss_pushes_near_prompts_apart():
    generator = torch.Generator().manual_seed(0)
    near = 1 + 0.1 * torch.randn(2, 8, generator=generator)
    model = model_with(near)
    prompts = model[0].degradation_prompts
    optimizer = torch.optim.SGD([prompts], lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        decoupling_loss(model).backward()
        optimizer.step()
    assert decoupling_loss(model).item() < 1


def test_decoupling_loss_without_pairs_is_zero():
    bare = nn.Sequential(nn.Conv2d(3, 3, 1), BareSkip())
    without = PromptedSkip(8, TYPES, ABLATION["b"])
    single = PromptedSkip(8, 1, FULL)
    assert [decoupling_loss(model).item() for model in (bare, without, single)] == [0, 0, 0]


def test_prompt_to_prompt_answers_the_basic_prompt():
    # With its last projections at zero the basic prompt comes through as it is.
    p2p = PromptToPrompt(8, 2.66)
    nn.init.zeros_(p2p.project.weight)
    nn.init.zeros_(p2p.feed_forward.narrow.weight)
    basic, aware = feature_of(16, 4, 4).chunk(2, dim=1)
    with torch.no_grad():
        assert torch.equal(p2p(basic, aware), basic)


def test_bfloat16_agrees_with_float32():
    skip = skip_of(96, PromptConfig(96, 16)).to(memory_format=torch.channels_last)
    feature = feature_of(96, 24, 24).to(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = skip(feature, OMEGA)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = skip(feature.bfloat16(), OMEGA)
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "multiple of 4"),
        ({"channels": 18}, "multiple of 4"),
        ({"size": 0}, "size"),
        ({"degradation_prompt": False, "basic_prompt": False}, "needs"),
    ],
)
def test_configuration_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(FULL, **changes)
