"""Consistency along z: what counts as even, and jumps that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipcli.evaluation.jumps import BLOCK, SliceMeans, even_regions, jump, region_means

EVERYWHERE = np.ones((2, 3), bool)


def means(
    z: float, errors: float | np.ndarray, even: np.ndarray = EVERYWHERE, series: str = "a"
) -> SliceMeans:
    return SliceMeans(series, z, even, np.broadcast_to(np.asarray(errors, float), even.shape))


def test_regions_are_blocks_and_what_is_left_over_does_not_count():
    values = np.arange(40.0 * 50).reshape(40, 50)
    found = region_means(values)
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(values[BLOCK : 2 * BLOCK, 2 * BLOCK : 3 * BLOCK].mean())


def test_even_is_what_counts_whole_and_holds_no_edge():
    smoothed = np.zeros((32, 48))
    smoothed[:16, 20:] = 100  # an edge in the second block of the first row
    smoothed[16:] = np.random.default_rng(1).normal(40, 10, (16, 48))
    counted = np.ones((32, 48), bool)
    counted[31, 47] = False
    assert even_regions(smoothed, counted).tolist() == [[True, False, True], [True, True, False]]


def test_jumps_are_between_neighbours_along_z_whatever_the_order_of_files():
    slices = [means(3, 5.0), means(1, 0.0), means(2, 1.0)]
    assert jump(slices) == pytest.approx(math.sqrt((1**2 + 4**2) / 2))


def test_regions_count_where_both_slices_are_even():
    first, second = EVERYWHERE.copy(), EVERYWHERE.copy()
    first[0, 0] = second[1, 1] = False
    errors = np.zeros((2, 3))
    errors[0, 0], errors[1, 1], errors[0, 1] = 100, 100, 2
    assert jump([means(1, 0.0, first), means(2, errors, second)]) == pytest.approx(math.sqrt(2**2 / 4))


def test_series_and_sizes_are_kept_apart():
    assert math.isnan(jump([means(1, 0.0), means(2, 9.0, series="b")]))
    assert math.isnan(jump([means(1, 0.0), means(2, 9.0, np.ones((1, 1), bool))]))
    assert math.isnan(jump([means(1, 0.0)]))
    assert math.isnan(jump([]))


def test_white_noise_jumps_as_its_means_do():
    rng = np.random.default_rng(2)
    even = np.ones((20, 20), bool)
    slices = [
        SliceMeans("a", z, even, region_means(rng.normal(0, 32, (20 * BLOCK, 20 * BLOCK)))) for z in range(6)
    ]
    assert jump(slices) == pytest.approx(math.sqrt(2) * 32 / BLOCK, rel=0.05)
