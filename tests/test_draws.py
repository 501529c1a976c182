"""Draws: intervals are kept, checked, and evenly filled."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from pipcli.synthesis.draws import (
    centred_grid,
    check_chance,
    check_interval,
    coin,
    log_uniform,
    smooth_field,
    uniform,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_fills_its_interval_evenly() -> None:
    values = uniform((4000,), (-3.0, 5.0), seeded()).numpy()
    assert scipy.stats.kstest(values, "uniform", args=(-3.0, 8.0)).pvalue > 0.01


def test_log_uniform_is_even_in_the_logarithm() -> None:
    values = log_uniform((4000,), (5.0, 150.0), seeded()).numpy()
    assert scipy.stats.kstest(values, "loguniform", args=(5.0, 150.0)).pvalue > 0.01


def test_coin_keeps_its_chance() -> None:
    assert coin((10000,), 0.3, seeded()).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert not coin((100,), 0.0, seeded()).any()
    assert coin((100,), 1.0, seeded()).all()


def test_smooth_field_is_smooth_and_of_unit_spread_at_its_nodes() -> None:
    field = smooth_field(200, 40, 61, 4, seeded())
    assert field.shape == (200, 1, 40, 61)
    assert field[..., 0, 0].std().item() == pytest.approx(1.0, abs=0.15)
    assert field.diff(dim=-1).abs().max() < 0.5


def test_centred_grid_counts_in_units_of_the_longer_side() -> None:
    rows, columns = centred_grid(3, 6, torch.device("cpu"))
    np.testing.assert_allclose(rows[:, 0], [-1 / 6, 0, 1 / 6], atol=1e-6)
    np.testing.assert_allclose(columns[0], (np.arange(6) - 2.5) / 6, atol=1e-6)


@pytest.mark.parametrize("interval", [(2.0, 1.0), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_a_wrong_interval_is_named(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="airlight"):
        check_interval("airlight", interval, 0.0, 1.0)


@pytest.mark.parametrize("chance", [-0.1, 1.5])
def test_a_wrong_chance_is_named(chance: float) -> None:
    with pytest.raises(ValueError, match="veil_chance"):
        check_chance("veil_chance", chance)
