"""Photographs in other colours: in range, each in its own, and none as it was."""

from __future__ import annotations

import torch

from pipcli.training.augmentation import recolour


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(batch: int) -> torch.Tensor:
    """Red above all, blue least."""
    levels = torch.tensor([0.8, 0.5, 0.2])[None, :, None, None]
    return (levels + 0.1 * torch.rand((batch, 3, 8, 8), generator=seeded(1))).clamp(0, 1)


def test_each_photo_gets_colours_of_its_own():
    made = recolour(photos(200), seeded())
    assert made.shape == (200, 3, 8, 8)
    assert made.min() >= 0
    assert made.max() <= 1
    means = made.mean(dim=(2, 3))
    orders = {tuple(order) for order in means.argsort(dim=1).tolist()}
    assert len(orders) == 6
    assert means.std(dim=0).min() > 0.1
    # From nearly grey to more colourful than before.
    spread = means.amax(dim=1) - means.amin(dim=1)
    assert spread.min() < 0.2
    assert spread.max() > 0.7


def test_what_is_brighter_in_a_channel_stays_so():
    """A curve and a gain keep the order of values, so that edges stay edges."""
    ramp = torch.linspace(0, 0.7, 16).expand(20, 3, 4, 16)
    assert (recolour(ramp, seeded()).diff(dim=-1) > 0).all()


def test_the_same_seed_gives_the_same():
    first, again, other = (recolour(photos(4), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
