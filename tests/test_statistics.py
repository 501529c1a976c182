"""Means and their standard errors."""

import math

import numpy as np
import pytest

from pipcli.evaluation.statistics import bootstrap_error, mean


def test_the_bootstrap_agrees_with_the_formula():
    values = list(np.random.default_rng(4).normal(30, 2, 80))
    formula = np.std(values) / math.sqrt(len(values))
    assert bootstrap_error(values) == pytest.approx(formula, rel=0.08)
    assert bootstrap_error(values) == bootstrap_error(values)


def test_no_error_where_there_is_nothing_to_resample():
    assert math.isnan(bootstrap_error([30.0]))
    assert math.isnan(bootstrap_error([]))
    assert math.isnan(bootstrap_error([30.0, math.inf]))
    assert bootstrap_error([30.0, 30.0]) == 0


def test_mean():
    assert mean([1.0, 2.0, 6.0]) == 3
    assert math.isnan(mean([]))
