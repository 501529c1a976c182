"""Prompt-In-Prompt: the prompted skip connection (arXiv 2312.05038, Section 3).

One :class:`PromptedSkip` sits on one skip connection of a U-shaped network and carries its feature Z from
the encoder to the decoder. On the way it makes a universal prompt U out of what is to be undone (ω and the
degradation-aware prompts) and what restoring needs in general (the basic prompt), and lets U modulate Z.

Symbols as in the paper: T degradation types, ω their weights (B×T), d the degradation-aware prompts (T×c),
B the basic prompt (c×s×s), Z the skip's feature (B×C×H×W), U the universal prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipcli.models.fused import convolve, fuses
from pipcli.models.layers import ChannelNorm, GatedFeedForward, project_part

PROMPT_HEADS = 2
FEATURE_HEADS = 4
KEEP = ((1, 2), (2, 3), (3, 4), (4, 5))
"""Shares of each attention row that the four top-m masks keep, as exact fractions (Section 3.3)."""


@dataclass(frozen=True)
class PromptConfig:
    """Sizes of one prompted skip, and the switches of the paper's ablation (Table 5).

    Attributes:
        channels: c, the prompt's channels; a multiple of 4 (the attention heads).
        size: s, the prompt's side in pixels.
        expansion: hidden channels per channel in both feed-forwards.
        degradation_prompt: use d. Without it ω has no effect (Table 5 b, d).
        basic_prompt: use B. Prompt-to-prompt needs both (Table 5 a has d alone).
        selective: top-m masks in prompt-to-feature; without, plain cross attention (Table 5 a, b, c).
    """

    channels: int
    size: int
    expansion: float = 2.66
    degradation_prompt: bool = True
    basic_prompt: bool = True
    selective: bool = True

    def __post_init__(self) -> None:
        if self.channels < FEATURE_HEADS or self.channels % FEATURE_HEADS:
            raise ValueError(f"prompt channels is {self.channels}: it must be a positive multiple of 4")
        if self.size < 1:
            raise ValueError(f"prompt size is {self.size}: it must be at least 1")
        if not (self.degradation_prompt or self.basic_prompt):
            raise ValueError("a prompted skip needs degradation_prompt, basic_prompt or both")


def channel_products(query: Tensor, key: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """What channel attention needs of query and key, each a plain sum over pixels.

    Because they are sums, the products of an image's tiles add up to the products of the image.

    Args:
        query, key: B×c×H×W.

    Returns:
        The products query·keyᵀ of each head, B×heads×c/heads×c/heads, and the squared norms of query and key
        over space, B×heads×c/heads each; all float32.
    """
    batch, channels = query.shape[:2]
    # In this order: a graph that is being traced must not be asked for its batch.
    if fuses(query) and batch == 1:
        return _products_at_once(query, key, heads)
    shape = (batch, -1, heads, channels // heads)
    # Pixels before channels: a view, not a copy, of channels_last tensors.
    q = query.permute(0, 2, 3, 1).reshape(shape)
    k = key.permute(0, 2, 3, 1).reshape(shape)
    norms = [x.float().square().sum(1) for x in (q, k)]
    pixels = 1
    if q.dtype == torch.float16:
        # Its largest number is 65504: a sum over a megapixel does not fit, a mean does.
        pixels = q.shape[1]
        q, k = q * pixels**-0.5, k * pixels**-0.5
    products = (q.permute(0, 2, 3, 1) @ k.permute(0, 2, 1, 3)).float() * pixels
    return products, norms[0], norms[1]


def _products_at_once(query: Tensor, key: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`channel_products` of one image, from products of all channels with all.

    That is as many times the multiplications as there are heads, which matrix units hardly notice. But to
    take out single heads first is to copy all pixels, four times as slow; and so are sums of squares.
    """
    channels = query.shape[1]
    width = channels // heads
    q, k = (x[0].permute(1, 2, 0).reshape(-1, channels) for x in (query, key))
    every = (q.T @ k).float()
    products = torch.stack(
        [every[each : each + width, each : each + width] for each in range(0, channels, width)]
    )
    norms = [(x.T @ x).diagonal().float().reshape(1, heads, width) for x in (q, k)]
    return products[None], norms[0], norms[1]


def cosine_scores(products: Tensor, query_norms: Tensor, key_norms: Tensor) -> Tensor:
    """Cosines between query and key channels over space, B×heads×c/heads×c/heads."""
    # The floor keeps an all-zero channel (a flat or empty image) at zero instead of 0/0.
    scale = (query_norms.unsqueeze(-1) * key_norms.unsqueeze(-2)).clamp_min(1e-20).rsqrt()
    return products * scale


def apply_channel_attention(attention: Tensor, value: Tensor) -> Tensor:
    """Mix the channels of ``value`` (B×c×H×W) by B×heads×c/heads×c/heads attention."""
    batch, channels, height, width = value.shape
    heads = attention.shape[1]
    pixels = value.permute(0, 2, 3, 1).reshape(batch, height * width, heads, channels // heads)
    mixed = pixels.transpose(1, 2) @ attention.to(value.dtype).transpose(-1, -2)
    return mixed.transpose(1, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def mixing_matrix(attention: Tensor, projection: Tensor) -> Tensor:
    """What attention, and the 1×1 convolution after it, do to the channels of a value: B×o×c.

    Args:
        attention: B×heads×c/heads×c/heads.
        projection: of the convolution, o×c.
    """
    heads, width = attention.shape[1:3]
    by_head = projection.reshape(-1, heads, width).transpose(0, 1).to(attention.dtype)
    return (by_head @ attention).transpose(1, 2).flatten(2)


def top_m(scores: Tensor, m: int) -> Tensor:
    """``scores`` with all but the m largest of each row set to −∞."""
    kept = scores.topk(m, dim=-1)
    return torch.full_like(scores, float("-inf")).scatter(-1, kept.indices, kept.values)


def mix_of(omega: Tensor) -> Tensor:
    """ω, B×T, brought to a sum of 1, float32: only its mix acts, not its scale. All zeros stay zeros."""
    omega = omega.float()
    return omega / omega.sum(1, keepdim=True).clamp_min(1e-12)


class Projection(nn.Sequential):
    """A 1×1 convolution followed by a depthwise 3×3, as Restormer's attention projects (no biases)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(channels, out, 1, bias=False),
            nn.Conv2d(out, out, 3, padding=1, groups=out, bias=False),
        )

    def part(self, x: Tensor, index: int, parts: int) -> Tensor:
        """One of the equal parts of the output's channels, as :func:`project_part` makes it."""
        mix, spread = self
        assert isinstance(mix, nn.Conv2d)
        assert isinstance(spread, nn.Conv2d)
        return project_part(x, mix, spread, index, parts)


class PromptToPrompt(nn.Module):
    """Prompt-in-prompt (Eqs. 5–6): the basic prompt asks, the degradation-aware prompt answers."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        self.norm_basic = ChannelNorm(channels)
        self.norm_aware = ChannelNorm(channels)
        self.query = Projection(channels, channels)
        self.key_value = Projection(channels, 2 * channels)
        self.temperature = nn.Parameter(torch.ones(PROMPT_HEADS, 1, 1))
        self.project = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels, expansion)

    def forward(self, basic: Tensor, aware: Tensor) -> Tensor:
        """U before its resizing, B×c×s×s, from ``basic``, 1×c×s×s, and ``aware``, B×c×s×s."""
        query = self.query(self.norm_basic(basic)).expand(aware.shape[0], -1, -1, -1)
        guide = self.norm_aware(aware)
        key, value = self.key_value.part(guide, 0, 2), self.key_value.part(guide, 1, 2)
        scores = cosine_scores(*channel_products(query, key, PROMPT_HEADS)) * self.temperature
        x = basic + self.project(apply_channel_attention(scores.softmax(-1), value))
        out: Tensor = x + self.feed_forward(self.norm(x))
        return out


class PromptedSkip(nn.Module):
    """PIP on one skip connection: Ẑ of Eq. 9 from Z and ω.

    The last projections start at zero, so that a new module passes Z through unchanged and can be put into
    a trained network without harm.

    Args:
        feature_channels: C of Z.
        types: T, the number of degradations.
        config: sizes and ablation switches.
    """

    def __init__(self, feature_channels: int, types: int, config: PromptConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_channels = feature_channels
        c, s = config.channels, config.size
        if config.degradation_prompt:
            self.degradation_prompts = nn.Parameter(torch.randn(types, c))
        if config.basic_prompt:
            self.basic_prompt = nn.Parameter(torch.randn(c, s, s))
        if config.degradation_prompt and config.basic_prompt:
            self.prompt_to_prompt = PromptToPrompt(c, config.expansion)
        self.smooth = nn.Conv2d(c, c, 3, padding=1, bias=False)

        self.norm_feature = ChannelNorm(feature_channels)
        self.norm_prompt = ChannelNorm(c)
        self.query = Projection(c, c)
        self.key_value = Projection(c, 2 * c)
        self.temperature = nn.Parameter(torch.ones(FEATURE_HEADS, 1, 1))
        if config.selective:
            self.selection = nn.Parameter(torch.full((len(KEEP),), 0.2))
        self.project = nn.Conv2d(c, c, 1, bias=False)
        if c > feature_channels:
            self.fit = nn.Conv2d(c, feature_channels, 1, bias=False)
        self.norm = ChannelNorm(feature_channels)
        self.feed_forward = GatedFeedForward(feature_channels, config.expansion)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.feed_forward.narrow.weight)

    def forward(self, feature: Tensor, omega: Tensor) -> Tensor:
        """Modulate ``feature`` (B×C×H×W) by what ``omega`` (B×T) says is to be undone."""
        s = self.config.size
        universal = self.universal_prompt(_resize(feature, s, s), omega)
        height, width = feature.shape[-2:]
        guide = self.guide(_resize(universal, height, width))
        attention = self.attention(*channel_products(*self.query_key(feature, guide), FEATURE_HEADS))
        return self.modulate(feature, attention, guide)

    def universal_prompt(self, feature: Tensor, omega: Tensor) -> Tensor:
        """U at its own size, B×c×s×s, from ω and the whole image's feature resized to B×C×s×s."""
        s = self.config.size
        batch = feature.shape[0]
        if not self.config.degradation_prompt:
            return self.basic_prompt.expand(batch, -1, -1, -1).to(feature.dtype)
        weighted = (mix_of(omega).unsqueeze(-1) * self.degradation_prompts).mean(1)[..., None, None]
        if not self.config.basic_prompt:
            return weighted.expand(-1, -1, s, s).to(feature.dtype)
        aware = weighted * _fit_channels(feature.float(), self.config.channels)
        # float32 but in a model that is in half precision itself, not by autocast.
        aware = aware.to(self.basic_prompt.dtype).contiguous(memory_format=torch.channels_last)
        basic = self.basic_prompt[None].contiguous(memory_format=torch.channels_last)
        universal: Tensor = self.prompt_to_prompt(basic, aware)
        return universal.to(feature.dtype)

    def guide(self, prompt: Tensor) -> Tensor:
        """What key and value are taken from, B×c×H×W: U, resized to Z's resolution, smoothed and normed."""
        guide: Tensor = self.norm_prompt(self.smooth(prompt))
        return guide

    def query_key(self, feature: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Query from Z, key from U's guide; each B×c×H×W."""
        query = self.query(_fit_channels(self.norm_feature(feature), self.config.channels))
        return query, self.key_value.part(guide, 0, 2)

    def attention(self, products: Tensor, query_norms: Tensor, key_norms: Tensor) -> Tensor:
        """Attention of Eqs. 7–8, B×4×c/4×c/4, from :func:`channel_products` over the whole image.

        The paper sums four masked attentions' outputs with learned scalars; as all four act on the same
        value, their maps are summed instead, and applied once.
        """
        scores = cosine_scores(products, query_norms, key_norms) * self.temperature
        if not self.config.selective:
            return scores.softmax(-1)
        length = scores.shape[-1]
        maps = [
            scale * top_m(scores, max(1, length * share // of)).softmax(-1)
            for scale, (share, of) in zip(self.selection, KEEP, strict=True)
        ]
        return torch.stack(maps).sum(0)

    def modulate(self, feature: Tensor, attention: Tensor, guide: Tensor) -> Tensor:
        """Ẑ = y + GDFN(LN(y)) with y = Z + attention's output (Eq. 9)."""
        y = self._attend(feature, attention, self.key_value.part(guide, 1, 2))
        return self.feed_forward.added_to(y, self.norm(y))

    def _attend(self, feature: Tensor, attention: Tensor, value: Tensor) -> Tensor:
        """Z + attention's output, its channels brought to those of Z."""
        c, channels = self.config.channels, self.feature_channels
        if fuses(value) and value.shape[0] == 1:
            weight = self.project.weight.flatten(1)
            if c > channels:
                weight = self.fit.weight.flatten(1) @ weight
            matrix = F.pad(mixing_matrix(attention, weight)[0], (0, 0, 0, max(0, channels - c)))
            return convolve(value, matrix[..., None, None], plus=feature)
        attended = self.project(apply_channel_attention(attention, value))
        if c > channels:
            attended = self.fit(attended)
        elif c < channels:
            attended = F.pad(attended, (0, 0, 0, 0, 0, channels - c))
        y: Tensor = feature + attended
        return y


class BareSkip(nn.Module):
    """A skip connection without PIP: hands Z on, whatever ω says."""

    def forward(self, feature: Tensor, omega: Tensor) -> Tensor:
        return feature


def skip_connections(
    channels: Sequence[int], prompts: Sequence[PromptConfig | None], types: int
) -> nn.ModuleList:
    """The skips of a backbone, each called as ``skip(feature, omega)``.

    Args:
        channels: C of each skip's feature.
        prompts: PIP on each skip; None leaves it bare.
        types: T, the number of degradations.
    """
    return nn.ModuleList(
        BareSkip() if prompt is None else PromptedSkip(width, types, prompt)
        for width, prompt in zip(channels, prompts, strict=True)
    )


def decoupling_loss(model: nn.Module, threshold: float = 90.0) -> Tensor:
    """L_ddl (Eq. 4): how far the angles between degradation-aware prompts fall short of ``threshold``.

    The mean over pairs of max(0, threshold − angle), in degrees, averaged over the model's prompted skips;
    zero for a model without prompts or with one type. The cosine is kept short of ±1, where the gradient of
    the arccosine is infinite.
    """
    terms = []
    for skip in model.modules():
        if isinstance(skip, PromptedSkip) and skip.config.degradation_prompt:
            prompts = skip.degradation_prompts.float()
            types = prompts.shape[0]
            if types < 2:
                continue
            norms = prompts.norm(dim=1)
            first, second = torch.triu_indices(types, types, offset=1, device=prompts.device)
            # Not a matrix product: autocast would take that in half precision.
            products = (prompts[first] * prompts[second]).sum(1)
            cosines = products / (norms[first] * norms[second] + 1e-8)
            angles = torch.rad2deg(torch.acos(cosines.clamp(-1 + 1e-6, 1 - 1e-6)))
            terms.append((threshold - angles).clamp_min(0).mean())
    if not terms:
        return next(model.parameters()).new_zeros(())
    return torch.stack(terms).mean()


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    # A graph that is traced from one size is to serve all: it resizes always, to the same size exactly.
    if not torch.compiler.is_compiling() and x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def _fit_channels(x: Tensor, channels: int) -> Tensor:
    """Crop or zero-pad the channels of B×C×H×W."""
    if x.shape[1] >= channels:
        return x[:, :channels]
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]))
