"""Recipes for degrading clean images of one's own."""

import numpy as np
import pytest

from pipcli.degradations import Degradation
from pipcli.errors import UsageError
from pipcli.evaluation.degrading import degrade_pixels, parse_recipe

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation


@pytest.mark.parametrize(
    ("text", "kinds", "sigma"),
    [
        ("noise:25", (), 25),
        ("noise:0.5", (), 0.5),
        ("rain", (RAIN,), None),
        ("haze+blur", (HAZE, BLUR), None),
        ("rain + noise:15", (RAIN,), 15),
    ],
)
def test_recipes(text, kinds, sigma):
    assert parse_recipe(text) == (kinds, sigma)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("snow", "unknown degradation 'snow'"),
        ("", "unknown degradation"),
        ("noise", "needs its deviation"),
        ("noise:loud", "needs its deviation"),
        ("noise:300", "at most 255"),
        ("rain:3", "only noise takes a number"),
        ("rain+rain", "stands once"),
        ("noise:25+rain", "noise comes last"),
    ],
)
def test_recipes_that_are_none(text, why):
    with pytest.raises(UsageError, match=why):
        parse_recipe(text)


@pytest.mark.parametrize("kind", [RAIN, HAZE, BLUR, LOWLIGHT])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_degraded_in_the_same_way_at_every_call(kind, channels):
    clean = np.random.default_rng(2).integers(40, 200, (64, 80, channels), np.uint8)
    once, again, other = (degrade_pixels(clean, (kind,), name) for name in ("a", "a", "b"))
    assert once.shape == (64, 80, 3)
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    assert (once != clean).any()
