"""Mixes: DMIX's halves and labels against a plain loop, and two degradations on top of each other."""

from __future__ import annotations

import pytest
import torch

from pipcli.degradations import Degradation
from pipcli.synthesis import SynthesisRanges, degrade, degrade_twice, dmix


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [(8, 10), (7, 9), (2, 2)])
def test_halves_and_labels_against_a_loop(size: tuple[int, int]) -> None:
    batch, (height, width) = 24, size
    # Every pixel of an input says which image it came from; targets say the same, plus 1000.
    number = torch.arange(batch).float().view(batch, 1, 1, 1)
    inputs = number.expand(batch, 3, height, width).contiguous()
    omega = torch.rand((batch, 5), generator=seeded(1))
    mixed, targets, labels = dmix(inputs, inputs + 1000, omega, seeded(2))

    assert torch.equal(targets, mixed + 1000)
    owners = []
    across = 0
    for b in range(batch):
        first, second = int(mixed[b, 0, 0, 0]), int(mixed[b, 0, -1, -1])
        owners.append(second)
        expected = torch.empty(3, height, width)
        upper = mixed[b, 0, 0, -1] == first
        for y in range(height):
            for x in range(width):
                in_first = y < height // 2 if upper else x < width // 2
                expected[:, y, x] = first if in_first else second
        across += int(bool(upper) and first != second)
        assert torch.equal(mixed[b], expected)
        torch.testing.assert_close(labels[b], (omega[first] + omega[second]) / 2)
        assert first == b
    # Every half is used once, halves really move, and both ways of cutting occur.
    assert sorted(owners) == list(range(batch))
    assert owners != list(range(batch))
    assert 3 < across < batch - 3


def test_a_batch_of_one_is_left_alone() -> None:
    image, omega = torch.rand((1, 3, 6, 6), generator=seeded()), torch.eye(5)[:1]
    mixed, targets, labels = dmix(image, image, omega, seeded())
    assert torch.equal(mixed, image)
    assert torch.equal(targets, image)
    assert torch.equal(labels, omega)


def test_same_seed_same_mix() -> None:
    images, omega = torch.rand((8, 3, 6, 6), generator=seeded()), torch.eye(8)
    assert torch.equal(dmix(images, images, omega, seeded(3))[0], dmix(images, images, omega, seeded(3))[0])
    assert not torch.equal(
        dmix(images, images, omega, seeded(3))[0], dmix(images, images, omega, seeded(4))[0]
    )


def test_two_degradations_happen_in_their_order() -> None:
    clean, ranges = torch.rand((2, 3, 48, 48), generator=seeded()), SynthesisRanges()
    made = degrade_twice(clean, Degradation.HAZE, Degradation.NOISE, ranges, seeded(1))
    generator = seeded(1)
    hazy = degrade(clean, Degradation.HAZE, ranges, generator)
    assert torch.equal(made, degrade(hazy.clamp(0, 1), Degradation.NOISE, ranges, generator))
    other = degrade_twice(clean, Degradation.NOISE, Degradation.HAZE, ranges, seeded(1))
    assert not torch.equal(made, other)
    assert other.min() >= 0
    assert other.max() <= 1
