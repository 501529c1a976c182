"""Words and numbers that become degradation weights."""

from __future__ import annotations

import math

import pytest

from pipcli.degradations import Degradation, omega_vector, parse_omega, parse_passes, parse_task
from pipcli.errors import UsageError

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("denoise", ({NOISE: 1.0},)),
        ("derain+denoise", ({RAIN: 0.5, NOISE: 0.5},)),
        ("derain,denoise", ({RAIN: 1.0}, {NOISE: 1.0})),
        (" denoise , dehaze + enhance ", ({NOISE: 1.0}, {HAZE: 0.5, LOWLIGHT: 0.5})),
    ],
)
def test_tasks_become_passes_in_order(text, passes):
    assert parse_passes(text) == passes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("polish", "unknown task 'polish': choose from denoise, derain, dehaze, deblur, enhance"),
        ("", "unknown task ''"),
        ("denoise,", "unknown task ''"),
        ("denoise+", "unknown task ''"),
        ("denoise+denoise", "names the same task twice"),
        ("denoise,denoise", "names the same task twice"),
        ("derain+denoise,denoise", "names the same task twice"),
    ],
)
def test_what_is_no_task_is_refused(text, says):
    with pytest.raises(UsageError, match=says.replace("+", r"\+")):
        parse_passes(text)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("noise=0.7,rain=0.3", {NOISE: 0.7, RAIN: 0.3}),
        ("lowlight=1", {LOWLIGHT: 1.0}),
        (" haze = .5, blur=5e-1 ", {HAZE: 0.5, BLUR: 0.5}),
        ("noise=0.33,rain=0.33,haze=0.33", {NOISE: 0.33, RAIN: 0.33, HAZE: 0.33}),
        ("noise=1,rain=0", {NOISE: 1.0, RAIN: 0.0}),
    ],
)
def test_weights_are_taken_as_they_are_written(text, weights):
    assert parse_omega(text) == weights


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noise=0.7,rain=0.2", "the weights sum to 0.9, they must sum to 1"),
        ("noise=0.7,rain=0.7", "the weights sum to 1.4"),
        ("noise=0", "the weights sum to 0"),
        ("noise=1.2,rain=-0.2", "the weight of rain must be a number of at least 0"),
        ("noise=nan", "the weight of noise must be a number"),
        ("noise=inf", "the weight of noise must be a number"),
        ("snow=1", "'snow' is none of noise, rain, haze, blur, lowlight"),
        ("denoise=1", "'denoise' is none of"),
        ("", "'' is none of"),
        ("noise=1,", "'' is none of"),
        ("noise=0.5,noise=0.5", "names noise twice"),
        ("noise", "noise needs a weight, such as noise=0.5"),
        ("noise=much", "noise needs a weight"),
        ("noise=0.5;rain=0.5", "noise needs a weight"),
    ],
)
def test_wrong_weights_are_refused_in_one_line(text, says):
    with pytest.raises(UsageError) as caught:
        parse_omega(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_omega_is_in_the_order_of_the_model():
    assert omega_vector(parse_task("derain+denoise"), (RAIN, HAZE, NOISE)) == (0.5, 0.0, 0.5)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({NOISE: -1.0}, "weight of noise is -1.0"),
        ({NOISE: math.inf}, "weight of noise is inf"),
        ({HAZE: 1.0}, "not trained for haze: it knows noise, rain"),
        ({NOISE: 0.0}, "all degradation weights are zero"),
    ],
)
def test_an_omega_that_fits_no_model_is_refused(weights, says):
    with pytest.raises(UsageError, match=says):
        omega_vector(weights, (NOISE, RAIN))
