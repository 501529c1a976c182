"""Maps of how far light has spread, and the network that estimates them."""

from __future__ import annotations

import math

import pytest
import torch

from pipcli.configuration import from_mapping, to_mapping
from pipcli.models.spread import SpreadConfig, SpreadEstimator, spread_maps


def covariance_of_a_line(length: float, angle: float) -> torch.Tensor:
    """1×3×1×1, of a line of this length in pixels, turned by the angle from the columns' axis."""
    variance = length**2 / 12
    down, right = math.sin(angle), math.cos(angle)
    values = torch.tensor([down * down, right * right, down * right])
    return (variance * values)[None, :, None, None]


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2, 2.5])
@pytest.mark.parametrize("length", [4.0, 24.0])
def test_maps_say_how_far_and_along_which_axis(length, angle):
    far, straight, oblique = spread_maps(covariance_of_a_line(length, angle)).flatten().tolist()
    assert far == pytest.approx(length / 12**0.5 / 8, rel=1e-5)
    # An axis has no ends: half a turn is all of it.
    assert straight == pytest.approx(-far * math.cos(2 * angle), abs=1e-6)
    assert oblique == pytest.approx(far * math.sin(2 * angle), abs=1e-6)


def test_a_round_spread_has_no_axis_and_none_is_zero():
    disk = torch.tensor([9.0, 9.0, 0.0])[None, :, None, None]
    assert spread_maps(disk).flatten().tolist() == pytest.approx([18**0.5 / 8, 0, 0])
    assert spread_maps(torch.zeros(1, 3, 2, 2)).abs().max() < 1e-3


def test_the_estimator_sees_eight_pixels_as_one_place():
    config = SpreadConfig(widths=(8, 8, 12), blocks=2)
    assert from_mapping(SpreadConfig, to_mapping(config)) == config
    with torch.no_grad():
        assert SpreadEstimator(config)(torch.rand(2, 3, 24, 40)).shape == (2, 3, 3, 5)


@pytest.mark.parametrize(
    ("numbers", "message"), [({"widths": (8, 0, 8)}, "widths"), ({"blocks": -1}, "blocks is -1")]
)
def test_sizes_are_checked(numbers, message):
    with pytest.raises(ValueError, match=message):
        SpreadConfig(**numbers)
