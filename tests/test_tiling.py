"""Tiles cover every pixel once, begin in phase, and keep their halo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipcli.errors import UsageError
from pipcli.inference.tiling import RAMP, Tiling

CASES = [(176, 32, 8), (200, 32, 8), (512, 32, 8), (98, 0, 1), (160, 7, 16), (513, 64, 4)]


@pytest.mark.parametrize(("tile", "halo", "stride"), CASES)
def test_weights_sum_to_one_at_every_pixel(tile, halo, stride):
    for length in (1, 2, 31, tile - 1, tile, tile + 1, 2 * tile + 13, 1234):
        total = np.zeros(length)
        for span in Tiling(tile, halo, stride).spans(length):
            assert (span.weights > 0).all()
            total[span.keep_start : span.keep_stop] += span.weights
        np.testing.assert_allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize(("tile", "halo", "stride"), CASES)
def test_spans_keep_their_promises(tile, halo, stride):
    tiling = Tiling(tile, halo, stride)
    for length in (*range(tile - 1, tile + 70), 1, 2 * tile + 13, 1234, 4000):
        spans = tiling.spans(length)
        assert spans[0].start == 0
        assert spans[0].keep_start == 0
        assert spans[-1].stop == length
        assert spans[-1].keep_stop == length
        assert (spans[0].own_start, spans[-1].own_stop) == (0, length)
        padded = {-(-(span.stop - span.start) // stride) * stride for span in spans}
        assert len(padded) == 1  # once the model has padded them
        assert padded.pop() <= max(tile, stride)
        for span in spans:
            assert span.start % stride == 0
            assert span.start == 0 or span.keep_start - span.start >= halo
            assert span.stop == length or span.stop - span.keep_stop >= halo
        for one, two in itertools.pairwise(spans):
            assert one.keep_stop - two.keep_start == RAMP
            assert two.keep_start <= two.own_start == one.own_stop <= one.keep_stop
            assert two.own_start % stride == 0
        # No pixel belongs to three tiles.
        for one, three in zip(spans, spans[2:], strict=False):
            assert one.keep_stop <= three.keep_start


def test_as_few_and_as_small_tiles_as_the_limit_allows():
    tiling = Tiling(tile=512, halo=32, stride=8)
    assert tiling.overlap == 96
    assert [(s.start, s.stop) for s in tiling.spans(512)] == [(0, 512)]
    # Two tiles of 512 would do, and so do two of 352: 600 + 96 = 696 = 2·348.
    assert [(s.start, s.stop) for s in tiling.spans(600)] == [(0, 352), (248, 600)]
    assert len(tiling.spans(512 + 416)) == 2
    assert len(tiling.spans(512 + 417)) == 3


def test_weights_of_a_tile_are_the_product_of_its_spans():
    row, *_ = Tiling(144, 16, 8).rows(300, 200)
    assert len(row) > 1
    weights = row[1].weights()
    assert weights.shape == (row[1].rows.weights.size, row[1].columns.weights.size)
    assert row[1].own[:2] == (row[1].rows.own_start, row[1].rows.own_stop)
    assert row[1].own[2:] == (row[1].columns.own_start, row[1].columns.own_stop)
    assert weights[-1, 3] == row[1].rows.weights[-1] * row[1].columns.weights[3]


def test_ramp_is_smooth_and_rises():
    first, second = Tiling(144, 16, 8).spans(200)
    rise = second.weights[:RAMP]
    assert (np.diff(rise) > 0).all()
    assert np.diff(rise).max() < 0.05  # the steepest step of a raised cosine is π/2 of the mean one
    np.testing.assert_allclose(first.weights[-RAMP:], rise[::-1], atol=1e-6)


def test_tile_too_small_for_the_halo_is_refused():
    assert Tiling(tile=176, halo=32, stride=8).smallest == 176
    with pytest.raises(UsageError, match=r"tile is 175: .*halo 32.* at least 176"):
        Tiling(tile=175, halo=32, stride=8)
    with pytest.raises(ValueError, match="stride 0"):
        Tiling(tile=176, halo=32, stride=0)
