"""From what a classifier says to what is undone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from standins import ColourClassifier

from pipcli.degradations import Degradation
from pipcli.errors import ImageError
from pipcli.images import Image
from pipcli.inference.decision import Auto, Decision, Told, decide
from pipcli.inference.diagnosis import Diagnoser, Diagnosis

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = ALL = tuple(Degradation)


def diagnosis(**probabilities: float) -> Diagnosis:
    return Diagnosis({kind: probabilities.get(str(kind), 0.01) for kind in ALL}, 12.345)


@pytest.mark.parametrize(
    ("probabilities", "kinds", "verdict"),
    [
        ({}, (), "clean"),
        ({"rain": 0.49, "noise": 0.499}, (), "clean"),
        ({"rain": 0.5}, (RAIN,), "rain"),
        ({"rain": 0.9, "noise": 0.6}, (NOISE, RAIN), "noise,rain"),
        ({"lowlight": 0.6, "haze": 0.55}, (HAZE, LOWLIGHT), "haze,lowlight"),
        ({"noise": 0.7, "rain": 0.9, "blur": 0.8}, (RAIN, BLUR), "rain,blur"),
        (dict.fromkeys(map(str, ALL), 0.9), (NOISE, RAIN), "noise,rain"),
    ],
)
def test_the_two_most_probable_become_passes_noise_first(probabilities, kinds, verdict):
    for abstain in (True, False) if kinds else (True,):
        decision = decide(diagnosis(**probabilities), ALL, 0.5, abstain)
        assert decision.passes == tuple({kind: 1.0} for kind in kinds)
        assert decision.verdict == verdict


def test_the_threshold_is_the_users():
    assert decide(diagnosis(rain=0.9), ALL, 0.95, True).passes == ()
    assert decide(diagnosis(rain=0.1), ALL, 0.05, True).passes == ({RAIN: 1.0},)


def test_without_abstaining_the_probabilities_weigh():
    decision = decide(diagnosis(rain=0.4, noise=0.25), ALL, 0.5, False)
    assert decision.passes == ({NOISE: 0.25, RAIN: 0.4, HAZE: 0.01, BLUR: 0.01, LOWLIGHT: 0.01},)
    assert decision.verdict == "unsure"
    nothing = Diagnosis(dict.fromkeys(ALL, 1e-6), 0.0)
    assert decide(nothing, ALL, 0.5, False).passes == (), "weights of zero are no omega"


def test_what_may_not_be_undone_does_not_count():
    both = diagnosis(rain=0.99, noise=0.7)
    assert decide(both, (NOISE,), 0.5, True).passes == ({NOISE: 1.0},)
    assert decide(diagnosis(rain=0.99), (NOISE,), 0.5, True).verdict == "clean"
    weak = decide(diagnosis(rain=0.99, noise=0.2), (NOISE,), 0.5, False)
    assert (weak.passes, weak.verdict) == (({NOISE: 0.2},), "unsure")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_is_no_answer(bad):
    for wrong in (diagnosis(rain=bad), Diagnosis(diagnosis().probabilities, bad)):
        with pytest.raises(ImageError, match="not finite"):
            decide(wrong, ALL, 0.5, True)


def test_what_is_noted_is_plain_json_and_tells_all():
    decision = decide(diagnosis(rain=0.912345, noise=0.6), ALL, 0.5, True)
    noted = decision.recorded((RAIN, NOISE))
    assert json.loads(json.dumps(noted)) == noted
    assert noted == {
        "verdict": "noise,rain",
        "omega": [{"rain": 0.0, "noise": 1.0}, {"rain": 1.0, "noise": 0.0}],
        "probabilities": {"noise": 0.6, "rain": 0.9123, "haze": 0.01, "blur": 0.01, "lowlight": 0.01},
        "sigma": 12.35,
    }
    clean = decide(diagnosis(), ALL, 0.5, True).recorded(ALL)
    assert clean is not None
    assert clean["omega"] is None


def test_what_the_user_says_is_done_whatever_the_image():
    told = Told(({NOISE: 0.5, RAIN: 0.5},))
    decision = told.decide(Image(np.zeros((8, 8, 3), np.uint8)), ALL)
    assert decision == Decision(told.passes)
    assert decision.recorded(ALL) is None
    assert decision.omegas((RAIN, HAZE, NOISE)) == ((0.5, 0.0, 0.5),)
    assert told.recorded((NOISE, RAIN)) == {"omega": {"noise": 0.5, "rain": 0.5}}
    with pytest.raises(ValueError, match="at least one"):
        Told(())


def test_auto_looks_at_each_image():
    auto = Auto(Diagnoser(ColourClassifier(), torch.device("cpu")), "ab", 0.5)
    pixels = np.zeros((40, 50, 3), np.uint8)
    assert auto.decide(Image(pixels), ALL).verdict == "clean"
    pixels[..., 0] = 255
    assert auto.decide(Image(pixels), ALL).verdict == "noise"
    pixels[..., 2] = 200
    assert auto.decide(Image(pixels), ALL).verdict == "noise,haze"
    assert auto.recorded(ALL) == {
        "omega": "auto",
        "classifier_sha256": "ab",
        "threshold": 0.5,
        "abstain": True,
    }
    with pytest.raises(ValueError, match="threshold is 2"):
        Auto(auto.diagnoser, "ab", 2)
