"""Models under what a classifier finds: what reaches them, and what its errors cost."""

import math

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pipcli.degradations import Degradation
from pipcli.evaluation.control import Control, control_of
from pipcli.evaluation.datasets import own_folder
from pipcli.evaluation.methods import Ailment, auto_method, input_method, model_method
from pipcli.evaluation.presenting import table_lines
from pipcli.evaluation.protocols import PROTOCOLS
from pipcli.evaluation.record import benchmark_record
from pipcli.evaluation.runner import Benchmark, run_benchmark
from pipcli.inference.decision import Auto
from pipcli.inference.device import Precision
from pipcli.inference.diagnosis import Diagnosis
from pipcli.inference.engine import Restorer

NOISE, RAIN, HAZE, BLUR, LOWLIGHT = Degradation
AIRNET = PROTOCOLS["airnet"]


class Brighter(torch.nn.Module):
    """Noise: y = x + 0.1; rain: y = x / 2. Shows which ω it was given, and in which order."""

    stride = 1
    degradations = (NOISE, RAIN)

    def forward(self, x, omega):
        return omega[0, 0] * (x + 0.1) + omega[0, 1] * (x / 2)


class Finding:
    """In place of a Diagnoser: finds what it is told to, one image after the other."""

    def __init__(self, *found):
        self.found = list(found)
        self.seen = []

    def diagnose(self, image):
        self.seen.append(image.crop_float(0, image.height, 0, image.width))
        present = self.found.pop(0)
        return Diagnosis({kind: 0.9 if kind in present else 0.1 for kind in Degradation}, 5.0)


def methods(finding):
    restorer = Restorer(Brighter(), torch.device("cpu"), Precision.FP32)
    told = model_method("m", restorer, "0" * 64)
    return told, auto_method(told, restorer, Auto(finding, "a" * 64, 0.5))


@pytest.mark.parametrize(
    ("found", "expected"),
    [((NOISE,), 0.5), ((RAIN,), 0.2), ((RAIN, NOISE), 0.25), ((), 0.4), ((HAZE,), 0.4), ((HAZE, NOISE), 0.5)],
)
def test_what_is_found_is_undone_in_passes_and_nothing_leaves_the_image_alone(found, expected):
    _, auto = methods(Finding(found))
    degraded = np.full((4, 4, 3), 0.4, np.float32)
    restored, told = auto.run(degraded, Ailment({NOISE: 1.0}, 25))
    np.testing.assert_allclose(restored, expected, atol=1e-6)
    assert [kind for weights in told.found for kind in weights] == [
        kind for kind in (NOISE, RAIN) if kind in found
    ]


def test_a_classifier_sees_what_a_file_could_hold():
    finding = Finding((NOISE,))
    _, auto = methods(finding)
    degraded = np.array([[[-0.2, 0.5, 1.3]] * 2] * 2, np.float32)
    auto.run(degraded, Ailment({NOISE: 1.0}, 25))
    np.testing.assert_array_equal(finding.seen[0], np.clip(degraded, 0, 1))


def test_the_method_says_who_decides():
    told, auto = methods(Finding())
    assert (auto.name, auto.beside) == ("m-auto", "m")
    assert "classifier" in auto.kind
    assert "aaaaaaaaaaaa" in auto.note
    assert told.run(np.zeros((2, 2, 3), np.float32), Ailment({RAIN: 1.0}, None))[1].found is None


@pytest.fixture
def noisy(tmp_path):
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(60, 120, (32, 32, 3), np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / f"{seed}.png")
    return own_folder(tmp_path, None)


def test_what_errors_cost_over_all_images_and_over_those_judged_rightly(noisy):
    dataset, located = noisy
    told, auto = methods(Finding((NOISE,), (), (RAIN,), (NOISE,)))
    result = run_benchmark(Benchmark(dataset, AIRNET, 5), located, [input_method(), told, auto])
    images = result.methods[2].images
    assert [image.found for image in images] == [(NOISE,), (), (RAIN,), (NOISE,)]
    assert [image.right for image in images] == [True, False, False, True]
    assert [image.right for image in result.methods[1].images] == [None] * 4
    changes = [
        mine.psnr - theirs.psnr
        for mine, theirs in zip(result.methods[2].scored, result.methods[1].scored, strict=True)
    ]
    control = control_of(result, result.methods[2])
    assert (control.images, control.right) == (4, 2)
    assert control.change == pytest.approx(np.mean(changes))
    assert abs(control.change) > 1
    assert control.change_where_right == 0
    assert control_of(result, result.methods[1]) is None

    (line,) = (line for line in table_lines(result) if line.method == "m-auto")
    assert "classifier right on 2 of 4; PSNR" in line.note
    record = benchmark_record(result)["methods"][2]
    assert record["classifier"]["psnr_change"] == pytest.approx(control.change, abs=1e-4)
    assert record["images"][2]["found"] == ["rain"]
    assert record["images"][2]["right"] is False
    assert "found" not in benchmark_record(result)["methods"][1]["images"][0]


def test_several_degradations_are_right_in_any_order(noisy):
    dataset, located = noisy
    _, auto = methods(Finding((RAIN, NOISE), (NOISE, RAIN), (NOISE,), ()))
    benchmark = Benchmark(dataset, AIRNET, 25, (RAIN,))
    result = run_benchmark(benchmark, located, [input_method(), auto])
    assert [image.right for image in result.methods[1].images] == [True, True, False, False]
    control = control_of(result, result.methods[1])
    assert math.isnan(control.change)
    assert control.words == "classifier right on 2 of 4"


def test_words_leave_out_what_is_not_known():
    assert Control(3, 0, -1.25, math.nan).words == (
        "classifier right on 0 of 3; PSNR -1.250 dB against the true ω"
    )
